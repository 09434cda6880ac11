"""Published weights from where their authors put them to this machine, when asked to, once the licence is accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stereo4d.errors import CheckpointError
from stereo4d.network.weights import licences
from stereo4d.network.weights.catalogue import Published, PublishedFile, find
from stereo4d.network.weights.downloading import Expected, Remote, check, difference, download, expected_by_tag
from stereo4d.network.weights.names import EMBEDDED, ROOM, alternatives, is_weights, locate, resolve, rooms
from stereo4d.progress import SILENT, Progress


def fetch(
    name: str,
    *,
    accept_licence: bool = False,
    ask: Callable[[Published], bool] | None = None,
    folder: str | Path | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Bring a published model to this machine; cut short, it goes on where it was when called again.

    Args:
        name: see ``catalogue``.
        accept_licence: the user accepts the licence, which is remembered.
        ask: else, asked to show the licence, and whether it is accepted.
        folder: puts files into ``FOLDER/NAME``; by default into the hub's cache (``HF_HOME``), and what is not on the
            hub into the user's room of weights (``STEREO4D_WEIGHTS``).
        progress: told of bytes.

    Returns:
        The weights file, whole, its size and checksum compared with what was published.

    Raises:
        UsageError: the licence is not accepted.
        CheckpointError: there is no such model, it cannot be reached, or what came is not what was published.
        OutputError: it cannot be written, or there is no room for it.
    """
    if name == EMBEDDED:
        return resolve(EMBEDDED)
    published = find(name)
    if published is None:
        raise CheckpointError(f"{name!r} is no published model; give {alternatives(name)}")
    if folder is None and (here := _here(published)) is not None:
        return here
    licences.require(published, accept=accept_licence, ask=ask)
    with _explained(published):
        if published.repo is None:
            place = Path(folder) if folder is not None else next(rooms())
            return _from_server(published, place.expanduser() / published.name, progress)
        return _from_hub(published, None if folder is None else Path(folder).expanduser() / published.name, progress)


def _here(published: Published) -> Path | None:
    """The file if it is here already; what the hub's cache has is compared with the pins, a user's own file is not."""
    from huggingface_hub.constants import HF_HUB_CACHE

    path = locate(published)
    if path is None or not path.is_relative_to(HF_HUB_CACHE):
        return path
    whole = all(
        (beside := path.with_name(file.name)).exists() and not difference(beside, Expected(file.bytes, file.sha256))
        for file in published.files
    )
    return path if whole else None


def _from_server(published: Published, folder: Path, progress: Progress) -> Path:
    """From the authors' file server, which publishes no checksums: the size is compared."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.utils import build_hf_headers

    assert published.url is not None, f"{published.name} is published nowhere"
    target = folder / published.url.rsplit("/", 1)[1]
    if target.exists():
        return target
    # token=False: the user's key to the hub is no business of this server
    metadata = get_hf_file_metadata(published.url, token=False)
    tag = f"{published.url} {metadata.etag} {metadata.size}"
    headers = build_hf_headers(token=False)
    return download(
        Remote(published.url, tag, target.name, Expected(bytes=metadata.size), headers), target, progress=progress
    )


def _from_hub(published: Published, folder: Path | None, progress: Progress) -> Path:
    """Every file, the weights last: their place is the answer."""
    paths = [_file_from_hub(published, file, folder, progress) for file in _files(published)]
    return paths[-1]


def _files(published: Published) -> tuple[PublishedFile, ...]:
    """Files to fetch, the weights last; where nobody wrote down their names, the repository is asked."""
    if published.files:
        return published.files
    from huggingface_hub import HfApi

    assert published.repo is not None
    names = HfApi().list_repo_files(published.repo, revision=published.revision)
    weights = [name for name in names if is_weights(name)]
    if len(weights) != 1:
        found = ", ".join(sorted(weights)[:6]) or "none"
        raise CheckpointError(
            f"{published.repo} should hold one weights file and has {found}; take one from its page by hand and give "
            f"its path, or put it into the folder that {ROOM} names as {published.name}.pth"
        )
    return (*(PublishedFile(name) for name in names if name == "config.json"), PublishedFile(weights[0]))


def _file_from_hub(published: Published, file: PublishedFile, folder: Path | None, progress: Progress) -> Path:
    from huggingface_hub import hf_hub_url

    assert published.repo is not None
    target = None if folder is None else folder / file.name
    if target is not None and target.exists() and file.sha256 is not None:
        return _kept(target, Expected(file.bytes, file.sha256))  # no network is needed to tell
    remote = _ask(file, hf_hub_url(published.repo, file.name, revision=published.revision))
    if target is None:
        return _into_cache(published, file, remote, progress)
    return _kept(target, remote.expected) if target.exists() else download(remote, target, progress=progress)


def _kept(target: Path, expected: Expected) -> Path:
    """A file of the user's folder that is what would be fetched; what is something else is not ours to remove."""
    if problem := difference(target, expected):
        raise CheckpointError(f"{target} is there and is not the published file: {problem}; move it away")
    return target


def _ask(file: PublishedFile, url: str) -> Remote:
    """What the hub says about a file, which must agree with what was published."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.errors import FileMetadataError
    from huggingface_hub.utils import build_hf_headers

    metadata = get_hf_file_metadata(url)
    if metadata.etag is None or metadata.commit_hash is None:
        raise FileMetadataError(f"{url} is not answered as the hub does; check HF_ENDPOINT")
    offered = expected_by_tag(metadata.etag, metadata.size)
    for what, said, pinned in (("bytes", offered.bytes, file.bytes), ("sha256", offered.sha256, file.sha256)):
        if said is not None and pinned is not None and said != pinned:
            raise CheckpointError(
                f"{url} is not the file that was published: {what} {said}, and {pinned} was expected; not fetched"
            )
    expected = Expected(file.bytes or offered.bytes, file.sha256 or offered.sha256, offered.git_sha1)
    return Remote(url, metadata.etag, file.name, expected, build_hf_headers())


def _into_cache(published: Published, file: PublishedFile, remote: Remote, progress: Progress) -> Path:
    """Into the hub's cache, where every program of the hub's finds it: its content first, the library links it."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    assert published.repo is not None
    folder = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=published.repo, repo_type="model") / "blobs"
    blob = folder / remote.tag
    if blob.exists() and difference(blob, remote.expected):
        blob.unlink()  # the name of a blob is its checksum, so this one is damaged
    if not blob.exists():
        download(remote, blob, progress=progress)
    path = Path(hf_hub_download(published.repo, file.name, revision=published.revision))
    if not path.samefile(blob):  # the library brought it by itself
        check(path, remote.expected, said=remote.url)
    return path


@contextmanager
def _explained(published: Published) -> Iterator[None]:
    """What goes wrong between here and a server, in our words."""
    from huggingface_hub import errors
    from huggingface_hub.constants import ENDPOINT

    place = f"{published.repo} on {ENDPOINT}" if published.repo else str(published.url)
    by_hand = f"or bring the file by other means and put it into the folder that {ROOM} names"
    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise CheckpointError(
            f"{published.name} is not here and offline mode is on (HF_HUB_OFFLINE); unset it, {by_hand}"
        ) from error
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{place} wants its conditions accepted: do so on its page, then: hf auth login"
        ) from error
    except errors.LocalEntryNotFoundError as error:  # what the library says of a hub that went away meanwhile
        raise CheckpointError(f"{place} cannot be reached any more; fetch again to go on, {by_hand}") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise CheckpointError(
            f"{place} does not have {published.name} any more, or asks for a login: {_reason(error)}"
        ) from error
    except (errors.HTTPError, errors.FileMetadataError) as error:
        raise CheckpointError(
            f"{place} cannot be reached: {_reason(error)}; what came so far is kept: fetch again to go on, {by_hand}"
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
