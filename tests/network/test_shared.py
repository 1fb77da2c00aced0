"""A switch of the process: once for all threads, and back off whatever happens."""

import signal
import threading
import time

import pytest

from whycam.network.shared import Shared


class Light:
    def __init__(self):
        self.on, self.turned = False, []

        def switch():
            assert not self.on
            try:
                self.on = True
                self.turned.append("on")
                yield
            finally:
                self.on = False
                self.turned.append("off")

        self.block = Shared(switch)


def test_nested_blocks_turn_it_once():
    light = Light()
    assert not light.block
    with light.block(), light.block():
        with light.block():
            assert light.on
        assert light.block
    assert light.turned == ["on", "off"]
    assert not light.block


def test_it_is_off_after_an_error():
    light = Light()
    with pytest.raises(KeyError), light.block(), light.block():
        raise KeyError
    assert light.turned == ["on", "off"]


def test_a_switch_that_cannot_be_thrown_is_tried_again():
    def broken():
        raise OSError
        yield

    switch = Shared(broken)
    for _ in range(2):
        with pytest.raises(OSError), switch():
            pass
        assert not switch


def test_threads_share_it():
    light, seen, go = Light(), [], threading.Barrier(8)

    def work():
        go.wait()
        for _ in range(200):
            with light.block():
                time.sleep(0)
                seen.append(light.on)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(seen)
    assert len(seen) == 1600
    assert not light.on
    assert not light.block


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer to interrupt with")
def test_ctrl_c_at_any_moment_leaves_it_off():
    light, came = Light(), 0

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(2000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 2e-6 + 1e-7 * (number % 400))
                for _ in range(10):
                    with light.block(), light.block():
                        pass
                time.sleep(1)
            except KeyboardInterrupt:
                came += 1
            assert not light.on, number
            assert not light.block, number
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert came == 2000
