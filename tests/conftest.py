"""What all tests rest on."""

import signal


def pytest_configure() -> None:
    # Jobs started in the background inherit an ignored Ctrl-C and pass it on; tests that press it would wait for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
