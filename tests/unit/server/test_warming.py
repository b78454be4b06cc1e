"""Pools that are kept warm. The pools are faked here; tests of the upstream do it with its own."""

import trio

from mongoguard.errors import UpstreamUnavailable
from mongoguard.server.warming import WARM_AGAIN_SECS, WARM_SECS, keep_warm


class FakePool:
    """Lacks one connection, which takes `secs` to open."""

    def __init__(self, secs=0.0, error=None):
        self.address = "h:1"
        self.lacks_connections = True
        self.secs, self.error = secs, error
        self.begun = []

    async def warm(self):
        self.begun.append(trio.current_time())
        await trio.sleep(self.secs)
        if self.error is not None:
            raise self.error
        self.lacks_connections = False


async def test_a_slow_server_keeps_no_other_pool_cold_and_is_asked_once(autojump_clock, nursery):
    slow, quick = FakePool(secs=30), FakePool()
    nursery.start_soon(keep_warm, lambda: [slow, quick], trio.sleep_forever)
    await trio.sleep(20)
    assert (len(slow.begun), len(quick.begun)) == (1, 1)
    assert not quick.lacks_connections
    quick.lacks_connections = True
    await trio.sleep(WARM_SECS * 1.5)
    assert len(quick.begun) == 2, "what has broken is opened again"
    nursery.cancel_scope.cancel()


async def test_a_server_that_refuses_is_tried_again_after_a_while(autojump_clock, nursery, caplog):
    caplog.set_level("INFO")
    pool = FakePool(error=UpstreamUnavailable("h:1 is full"))
    nursery.start_soon(keep_warm, lambda: [pool], trio.sleep_forever)
    await trio.sleep(WARM_AGAIN_SECS * 3)
    assert all(
        later - sooner >= WARM_AGAIN_SECS for sooner, later in zip(pool.begun, pool.begun[1:], strict=False)
    )
    assert 2 <= len(pool.begun) <= 3
    assert "connections to upstream server h:1 cannot be kept ready: h:1 is full" in caplog.text
    pool.error = None
    await trio.sleep(WARM_AGAIN_SECS + 2 * WARM_SECS)
    assert not pool.lacks_connections
    nursery.cancel_scope.cancel()


async def test_a_change_of_the_topology_is_not_waited_out(autojump_clock, nursery):
    changes = [trio.Event()]
    pools = []

    async def changed():
        await changes[-1].wait()

    nursery.start_soon(keep_warm, lambda: pools, changed)
    await trio.sleep(WARM_SECS / 10)
    pools.append(FakePool())
    changes.append(trio.Event())
    changes[0].set()
    await trio.sleep(WARM_SECS / 10)
    assert len(pools[0].begun) == 1
    nursery.cancel_scope.cancel()
