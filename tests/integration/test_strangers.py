"""What strangers get of the upstream: its answers, but none of its time."""

from __future__ import annotations

from tests.rawwire import RawConnection
from tests.servers import Guard


def test_list_commands_is_the_upstreams_own_answer_and_costs_it_one_question(guard: Guard) -> None:
    with RawConnection(guard.upstream.address) as direct:
        expected = direct.command("admin", {"listCommands": 1})
    with guard.upstream.client() as root, RawConnection(guard.address) as first:
        assert first.command("admin", {"listCommands": 1})["commands"] == expected["commands"]

        def asked() -> int:
            return int(root.admin.command("serverStatus")["metrics"]["commands"]["listCommands"]["total"])

        before = asked()
        for db in ("admin", "shop") * 10:
            with RawConnection(guard.address) as raw:
                assert raw.command(db, {"listCommands": 1})["commands"] == expected["commands"]
                assert raw.command(db, {"ping": 1})["ok"] == 1
        assert asked() == before
        first.log_in("root", "root-pw")
        assert first.command("admin", {"listCommands": 1})["commands"] == expected["commands"]
        assert asked() == before + 1, "who is logged in asks the upstream itself"
