"""Weights fetched from a server on this machine that speaks the hub's protocol, and behaves badly."""

from __future__ import annotations

import errno
import hashlib
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download

from stereo4d.cli.main import main
from stereo4d.errors import CheckpointError, OutputError, UsageError
from stereo4d.network.weights import catalogue, load_model, resolve
from stereo4d.network.weights.catalogue import Published, PublishedFile, find
from stereo4d.network.weights.fetching import fetch
from stereo4d.network.weights.licences import record
from stereo4d.network.weights.names import locate
from stereo4d.network.weights.pickled import read_pickle
from tests.full_disk import files_up_to
from tests.golden_numbers import small_config
from tests.hub_server import COMMIT, Hub, serve
from tests.official_files import write_pth
from tests.tiny_weights import write_tiny_weights

NAME, REPO = "dust3r-224-linear", "naver/DUSt3R_ViTLarge_BaseDecoder_224_linear"
UNOFFICIAL = "KevinMathew/dynadust3r-unofficial-weights"
CHUNK = 50_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = write_tiny_weights(tmp_path_factory.mktemp("tiny"))
    return {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server; this process takes it for the hub, and an empty folder for the user's home."""
    with serve(Hub(repos={REPO: files})) as hub:
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HF_HOME"):
            monkeypatch.setenv(name, str(tmp_path / name.lower()))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1,localhost")
        monkeypatch.delenv("STEREO4D_WEIGHTS", raising=False)
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hf_home" / "hub"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "DOWNLOAD_CHUNK_SIZE": CHUNK,  # what a cut loses at most
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)  # between its attempts
        monkeypatch.setattr(socket, "getaddrinfo", only_here)
        huggingface_hub.close_session()
        yield hub
        huggingface_hub.close_session()


GETADDRINFO = socket.getaddrinfo


def only_here(host: str, *rest: object, **options: object) -> list:
    """No test asks the internet."""
    assert host in ("127.0.0.1", "localhost"), host
    return GETADDRINFO(host, *rest, **options)


def put(monkeypatch: pytest.MonkeyPatch, name: str, **changes: object) -> Published:
    """A published model with other facts, for as long as the test runs."""
    published = replace(find(name), **changes)
    monkeypatch.setitem(catalogue._BY_NAME, name, published)
    return published


def pinned(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], **changes: object) -> None:
    """The model as if somebody had written down size and checksum of its files."""
    entries = [PublishedFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()]
    entries[1] = replace(entries[1], **changes)
    put(monkeypatch, NAME, files=tuple(entries), revision=COMMIT)


def everything_in(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith((".lock", ".TAG"))]


def leftovers(tmp_path: Path) -> list[str]:
    """Files of weights, whole or not, links included."""
    return [path.name for path in everything_in(tmp_path) if path.stat().st_size > 10_000]


def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """Of a process of its own, as users set it."""
    chosen = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(tmp_path / "hf_home")}
    return {**os.environ, **chosen}


COMMAND = [sys.executable, "-m", "stereo4d.cli.main", "weights"]


def test_a_fetched_name_works_where_paths_do(hub: Hub, files: dict[str, bytes], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(CheckpointError, match=r"about 2\.13 GB, licence: CC BY-NC-SA .* weights fetch dust3r-224"):
        load_model(NAME)
    assert not hub.asked  # nothing is fetched unasked
    assert main(["weights", "fetch", NAME, "--accept-licence", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert hashlib.sha256(files["model.safetensors"]).hexdigest() in said
    for name in (NAME, NAME.upper(), REPO, REPO.split("/")[1]):
        assert resolve(name).read_bytes() == files["model.safetensors"]
    assert load_model(NAME).config.img_size == (48, 64)
    assert main(["weights", "show", NAME]) == 0
    assert "name        DUSt3R_ViTLarge_BaseDecoder_224_linear\n" in (said := capsys.readouterr().out)
    assert "licence     CC BY-NC-SA" in said
    before = len(hub.asked)
    assert fetch(NAME) == resolve(NAME)
    assert len(hub.asked) == before


def test_the_hubs_own_library_finds_what_was_fetched(hub: Hub) -> None:
    path = fetch(NAME, accept_licence=True)
    assert huggingface_hub.hf_hub_download(REPO, "model.safetensors", local_files_only=True) == str(path)
    hub.asked.clear()
    assert huggingface_hub.hf_hub_download(REPO, "model.safetensors") == str(path)
    assert not hub.ranges()


def test_a_cut_connection_goes_on_where_it_was(hub: Hub, files: dict[str, bytes]) -> None:
    hub.cuts = [3 * CHUNK + 7, 2 * CHUNK + 7]
    assert fetch(NAME, accept_licence=True).read_bytes() == files["model.safetensors"]
    assert hub.ranges() == [None, f"bytes={3 * CHUNK}-", f"bytes={5 * CHUNK}-"]


def test_a_fetch_that_failed_is_gone_on_with_by_the_next(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    hub.cuts = [4 * CHUNK] + [0] * 20
    with pytest.raises(CheckpointError, match=r"cannot be reached.*what came so far is kept: fetch again to go on"):
        fetch(NAME, accept_licence=True)
    assert locate(find(NAME)) is None
    assert [path.stat().st_size for path in tmp_path.rglob("*.incomplete")] == [4 * CHUNK]
    hub.cuts, hub.asked = [], []
    assert fetch(NAME).read_bytes() == files["model.safetensors"]
    assert hub.ranges() == [f"bytes={4 * CHUNK}-"]
    assert not list(tmp_path.rglob("*.incomplete"))


def test_a_killed_process_loses_one_chunk_at_most(hub: Hub, tmp_path: Path) -> None:
    """In a process of its own, with the hub named by HF_ENDPOINT, its cache by HF_HOME, and the library's chunks."""
    embedded = resolve("embedded").parent
    content = {name: (embedded / name).read_bytes() for name in ("config.json", "model.safetensors")}
    hub.repos, hub.hold = {REPO: content}, 12_000_000
    argv = [*COMMAND, "fetch", NAME, "--accept-licence", "--quiet"]
    with subprocess.Popen(argv, env=environment(hub, tmp_path), stderr=subprocess.DEVNULL) as process:
        assert hub.standing.wait(300)
        wait_for_bytes(tmp_path, 10_000_000)
        process.kill()
    hub.go_on.set()
    hub.hold, hub.asked = None, []
    assert fetch(NAME).read_bytes() == content["model.safetensors"]  # in the cache that HF_HOME names
    (wanted,) = hub.ranges()
    assert int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) >= 10_000_000


def wait_for_bytes(folder: Path, count: int) -> None:
    waiting = subprocess.run(  # sleeping is switched off in this process
        [
            sys.executable,
            "-c",
            "import pathlib, sys, time\n"
            "size = lambda: sum(p.stat().st_size for p in pathlib.Path(sys.argv[1]).rglob('*.incomplete'))\n"
            "end = time.monotonic() + 100\n"
            "while size() < int(sys.argv[2]) and time.monotonic() < end: time.sleep(0.05)",
            *(str(folder), str(count)),
        ],
        check=True,
    )
    assert waiting.returncode == 0


def test_a_server_that_ignores_ranges_gives_the_file_from_its_start(hub: Hub, files: dict[str, bytes]) -> None:
    hub.cuts, hub.ignores_range = [3 * CHUNK], True
    assert fetch(NAME, accept_licence=True).read_bytes() == files["model.safetensors"]
    assert hub.ranges() == [None, f"bytes={3 * CHUNK}-"]


@pytest.mark.parametrize("claimed", [500_000, 600_000])
def test_a_file_of_another_size_than_the_hub_says_is_removed(claimed: int, hub: Hub, tmp_path: Path) -> None:
    hub.sizes = {"model.safetensors": claimed}
    with pytest.raises(CheckpointError, match=f"567,512 bytes came and {claimed:,} were expected; it was removed"):
        fetch(NAME, accept_licence=True)
    assert locate(find(NAME)) is None
    assert leftovers(tmp_path) == []


def test_content_of_another_checksum_than_the_hub_says_is_removed(hub: Hub, tmp_path: Path) -> None:
    hub.tags = {"model.safetensors": "0" * 64}
    with pytest.raises(CheckpointError, match=r"its sha256 is [0-9a-f]{64} and 0{64} was expected; it was removed"):
        fetch(NAME, accept_licence=True)
    assert locate(find(NAME)) is None
    assert leftovers(tmp_path) == []


def test_a_config_that_is_not_the_one_in_git_is_removed(hub: Hub, tmp_path: Path) -> None:
    hub.tags = {"config.json": "0" * 40}
    with pytest.raises(CheckpointError, match=r"its git checksum is [0-9a-f]{40} and 0{40} was expected"):
        fetch(NAME, accept_licence=True)
    assert [path.name for path in everything_in(tmp_path)] == [record().name]


@pytest.mark.parametrize(
    ("changes", "reason"), [({"bytes": 567_513}, "bytes 567512, and 567513"), ({"sha256": "f" * 64}, "sha256 .* f{64}")]
)
def test_a_file_that_is_not_the_pinned_one_is_not_even_asked_for(
    changes: dict, reason: str, hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned(monkeypatch, files, **changes)
    with pytest.raises(CheckpointError, match=f"not the file that was published: {reason} was expected; not fetched"):
        fetch(NAME, accept_licence=True)
    assert not hub.ranges()


def test_pins_hold_against_a_hub_that_lies(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned(monkeypatch, files)
    right = hashlib.sha256(files["model.safetensors"]).hexdigest()
    forged = files["model.safetensors"][:-1] + b"!"
    hub.repos, hub.tags = {REPO: files | {"model.safetensors": forged}}, {"model.safetensors": right}
    with pytest.raises(CheckpointError, match=f"{right} was expected; it was removed"):
        fetch(NAME, accept_licence=True)
    assert leftovers(tmp_path) == []
    hub.repos = {REPO: files}
    path = fetch(NAME)
    path.write_bytes(forged)  # the disk lies, too
    assert fetch(NAME).read_bytes() == files["model.safetensors"]


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (401, "RepoNotFound", "does not have dust3r-224-linear any more, or asks for a login"),
        (403, "GatedRepo", "wants its conditions accepted: do so on its page, then: hf auth login"),
        (404, "EntryNotFound", "does not have dust3r-224-linear any more"),
        (404, "RevisionNotFound", "does not have dust3r-224-linear any more"),
        (500, "", "cannot be reached: .*500"),
        (200, "", "not answered as the hub does; check HF_ENDPOINT"),
    ],
)
def test_what_the_hub_refuses_is_said_in_a_line(
    status: int, code: str, reason: str, hub: Hub, capsys: pytest.CaptureFixture
) -> None:
    hub.status, hub.error_code = status, code
    assert main(["weights", "fetch", NAME, "--accept-licence", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(reason, error)
    assert f"{REPO} on {hub.url}" in error


def test_without_a_network_the_way_by_hand_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", nobody + "/{repo_id}/resolve/{revision}/{filename}"
        )
        with pytest.raises(CheckpointError, match=r"cannot be reached: .*refused.*folder that STEREO4D_WEIGHTS names"):
            fetch(NAME, accept_licence=True)


def test_offline_mode_asks_nobody_and_takes_what_is_here(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"offline mode is on \(HF_HUB_OFFLINE\)"):
        fetch(NAME, accept_licence=True)
    assert not hub.asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = fetch(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(NAME) == path
    load_model(NAME)


def test_room_is_looked_for_before_anything_is_asked_for(hub: Hub) -> None:
    hub.sizes = {"model.safetensors": 10**16}
    with pytest.raises(OutputError, match=r"takes 10,000,000,000\.0 MB more and .* MB left; make room, or .*--folder"):
        fetch(NAME, accept_licence=True)
    assert not hub.ranges()


def test_a_full_disk_is_said_in_a_line_and_gone_on_with(
    hub: Hub, files: dict[str, bytes], capsys: pytest.CaptureFixture
) -> None:
    with files_up_to(200_000):
        assert main(["weights", "fetch", NAME, "--accept-licence", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert os.strerror(errno.EFBIG) in error
    assert "make room or choose another place; what came so far is kept" in error
    assert locate(find(NAME)) is None
    hub.asked.clear()
    assert fetch(NAME).read_bytes() == files["model.safetensors"]
    assert hub.ranges() == ["bytes=200000-"]


def test_a_licence_is_accepted_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"its licence is CC BY-NC-SA 4\.0 .* with --accept-licence"):
        fetch(NAME)
    asked = []
    with pytest.raises(UsageError, match="was not fetched"):
        fetch(NAME, ask=lambda published: asked.append(published.licence))  # None is no yes
    assert not hub.asked
    assert not record().exists()
    fetch(NAME, ask=lambda published: True)
    assert "CC BY-NC-SA" in asked[0]
    locate(find(NAME)).unlink()
    fetch(NAME, ask=pytest.fail)
    put(monkeypatch, NAME, licence="another one")
    locate(find(NAME)).unlink()
    with pytest.raises(UsageError, match="its licence is another one"):  # what was accepted reads otherwise
        fetch(NAME)


def test_on_a_terminal_the_licence_is_shown_and_asked_about(hub: Hub, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"y\n")
    argv, ends = [*COMMAND, "fetch", NAME, "--quiet"], {"stdin": theirs, "stderr": theirs}
    subprocess.run(argv, env=environment(hub, tmp_path), stdout=subprocess.DEVNULL, check=True, **ends)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert "licence: CC BY-NC-SA 4.0 (non-commercial)" in shown
    assert "Accept this licence? [y/N]" in shown
    assert locate(find(NAME)) is not None


def test_a_folder_of_ones_own_is_filled_and_found(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch(NAME, accept_licence=True, folder=tmp_path / "room")
    assert path == tmp_path / "room" / NAME / "model.safetensors"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["config.json", "model.safetensors"]
    with pytest.raises(CheckpointError, match="not on this machine"):
        resolve(NAME)
    monkeypatch.setenv("STEREO4D_WEIGHTS", str(tmp_path / "room"))
    assert resolve(NAME) == path
    hub.asked.clear()
    assert fetch(NAME, folder=tmp_path / "room") == path
    assert not hub.ranges()
    path.write_bytes(b"my own")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is there and is not the published file: 6 bytes"):
        fetch(NAME, folder=tmp_path / "room")
    assert path.read_bytes() == b"my own"


def test_a_repository_whose_files_nobody_wrote_down_is_asked(hub: Hub, tmp_path: Path) -> None:
    content = write_pth(tmp_path, small_config("linear")).read_bytes()
    hub.repos = {UNOFFICIAL: {"best_loss_0.1.pth": content, "README.md": b"# weights"}}
    path = fetch("dynadust3r", accept_licence=True)
    assert path.name == "best_loss_0.1.pth"
    assert resolve("DynaDUSt3R-unofficial") == path
    assert "model" in read_pickle(path)


@pytest.mark.parametrize(("names", "found"), [((), "none"), (("a.pth", "b.safetensors"), "a.pth, b.safetensors")])
def test_a_repository_with_several_weights_files_or_none_is_not_guessed_at(
    names: tuple[str, ...], found: str, hub: Hub
) -> None:
    hub.repos = {UNOFFICIAL: {"README.md": b"# weights", **dict.fromkeys(names, b"x")}}
    with pytest.raises(CheckpointError, match=f"should hold one weights file and has {found}; take one"):
        fetch("dynadust3r", accept_licence=True)


def test_what_is_not_on_the_hub_comes_from_its_authors_server(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_pth(tmp_path, small_config("linear")).read_bytes()
    hub.plain = {"/plain/CroCo.pth": content}
    put(monkeypatch, "croco-v1", url=f"{hub.url}/plain/CroCo.pth")
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.cuts = [2 * CHUNK]
    path = fetch("croco-v1", accept_licence=True)
    assert path == tmp_path / "xdg_cache_home" / "stereo4d" / "weights" / "croco-v1" / "CroCo.pth"
    assert path.read_bytes() == content
    assert hub.ranges() == [None, f"bytes={2 * CHUNK}-"]
    assert hub.keys == {None}  # the key to the hub is not for others
    assert resolve("croco-v1") == path
    hub.asked.clear()
    assert fetch("croco-v1") == path
    assert not hub.asked
    monkeypatch.setenv("STEREO4D_WEIGHTS", str(tmp_path / "room"))
    path.unlink()
    assert fetch("croco-v1") == tmp_path / "room" / "croco-v1" / "CroCo.pth"


def test_a_file_that_changed_between_two_attempts_is_begun_anew(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, "croco-v1", url=f"{hub.url}/plain/CroCo.pth")
    hub.plain, hub.cuts = {"/plain/CroCo.pth": bytes(300_000)}, [2 * CHUNK] + [0] * 20
    with pytest.raises(CheckpointError, match="what came so far is kept"):
        fetch("croco-v1", accept_licence=True)
    hub.plain, hub.cuts, hub.asked = {"/plain/CroCo.pth": b"!" * 300_000}, [], []
    assert fetch("croco-v1").read_bytes() == b"!" * 300_000
    assert hub.ranges() == [None]


def test_unknown_names_are_told_what_there_is(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match=r"'monstr' is no published model; .* did you mean 'monst3r'"):
        fetch("monstr", accept_licence=True)
    assert fetch("embedded") == resolve("embedded")
