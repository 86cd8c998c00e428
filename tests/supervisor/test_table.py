"""What a supervisor knows, without a process or a socket."""

from __future__ import annotations

from xproxy.supervisor.sockets import Place
from xproxy.supervisor.table import Command, Key, Phase, Slot, Table, Worker, summary

WEB = Key.of("web", Place("127.0.0.1", 80, ""))
ADMIN = Key.of("(admin)", Place("127.0.0.1", 9901, ""))


def table_with(*counts: int) -> tuple[Table[str], list[list[Worker]]]:
    """Return a table with so many workers in each generation."""
    table: Table[str] = Table()
    found = [
        [table.add(index, generation, count) for index in range(count)]
        for generation, count in enumerate(counts, 1)
    ]
    return table, found


def take(table: Table[str], key: Key, worker: Worker, *, single: bool = False) -> list[str]:
    """Ask as a worker does: what is lacking is opened, then given."""
    for index in table.lacking(key, worker.count, single=single):
        table.slots[key, index] = Slot(f"{key.place.port}/{index}")
    return [slot.socket for slot in table.share(key, worker, single=single)]


def test_keys_are_places_and_where_any_port_will_do_names() -> None:
    place = Place("127.0.0.1", 80, "")
    assert Key.of("a", place) == Key.of("b", place)
    free = Place("127.0.0.1", 0, "")
    assert Key.of("a", free) != Key.of("b", free)
    path = Place("", 0, "/x")
    assert Key.of("a", path) == Key.of("b", path)


def test_all_sockets_of_a_listener_are_opened_at_once_and_each_worker_gets_its_own() -> None:
    table, ((first, second),) = table_with(2)
    assert table.lacking(WEB, 2, single=False) == [0, 1]
    assert take(table, WEB, first) == ["80/0"]
    assert table.lacking(WEB, 2, single=False) == []
    assert take(table, WEB, second) == ["80/1"]


def test_a_single_socket_is_everybodys() -> None:
    table, (workers,) = table_with(3)
    assert [take(table, ADMIN, one, single=True) for one in workers] == [["9901/0"]] * 3


def test_the_next_generation_gets_the_same_sockets_by_index() -> None:
    table, ((a, b), (c, d)) = table_with(2, 2)
    for worker in (a, b):
        take(table, WEB, worker)
    assert take(table, WEB, c) == ["80/0"]
    assert take(table, WEB, d) == ["80/1"]


def test_fewer_workers_share_the_surplus_sockets() -> None:
    table, (before, (first, second)) = table_with(5, 2)
    for worker in before:
        take(table, WEB, worker)
    assert take(table, WEB, first) == ["80/0", "80/2", "80/4"]
    assert take(table, WEB, second) == ["80/1", "80/3"]
    assert all(slot.holders for slot in table.slots.values())


def test_more_workers_open_the_sockets_that_lack() -> None:
    table, ((only,), (first, second)) = table_with(1, 2)
    take(table, WEB, only)
    assert take(table, WEB, first) == ["80/0"]
    assert take(table, WEB, second) == ["80/1"]


def test_a_released_socket_is_closed_when_the_last_lets_it_go() -> None:
    table, ((old,), (new,)) = table_with(1, 1)
    take(table, WEB, old)
    take(table, WEB, new)
    assert table.release(WEB, old) == ([], False), "its queue is the other's"
    closing, last = table.release(WEB, new)
    assert [slot.socket for slot in closing] == ["80/0"]
    assert last
    assert not table.slots


def test_releasing_what_is_not_there_is_for_the_worker_to_end() -> None:
    table, ((worker,),) = table_with(1)
    assert table.release(WEB, worker) == ([], True)


def test_a_dead_workers_socket_waits_for_its_successor() -> None:
    table, ((dead,),) = table_with(1)
    take(table, WEB, dead)
    table.remove(dead)
    assert list(table.slots) == [(WEB, 0)]
    successor = table.add(0, 1, 1)
    assert take(table, WEB, successor) == ["80/0"]
    take(table, ADMIN, successor, single=True)
    table.slots[ADMIN, 0].holders.clear()
    assert [key for key, _ in table.unwanted()] == [ADMIN]
    assert [slot.socket for _, slot in table.take_all()] == ["80/0"]


def test_a_generation_begins_when_all_of_it_are_prepared() -> None:
    table: Table[str] = Table()
    first = table.add(0, 1, 0)
    assert not table.all_prepared(1)
    first.phase = Phase.PREPARED
    first.count = 2
    assert not table.all_prepared(1)
    second = table.add(1, 1, 2)
    assert not table.all_prepared(1)
    second.phase = Phase.PREPARED
    assert table.all_prepared(1)
    assert not table.all_prepared(2)


def test_who_serves_and_which_generations_live() -> None:
    table, ((old,), (new,)) = table_with(1, 1)
    old.pid, old.phase = 17, Phase.LEAVING
    assert table.of_pid(17) is old
    assert table.of_pid(18) is None
    assert list(table.serving()) == [new]
    assert table.generations() == [1, 2]
    table.remove(old)
    assert table.generations() == [2]
    new.serving = {"http1": 2}
    shown = {"generation": 2, "worker": 0, "pid": 0, "phase": "starting", "serving": {"http1": 2}}
    assert summary([new]) == [shown]
    assert str(new) == "worker 0 of generation 2 (pid 0)"


def test_sockets_from_the_start_are_found_by_name_then_by_place_and_once() -> None:
    table: Table[str] = Table()
    named, placed = Slot("named", activated=True), Slot("placed", activated=True)
    table.waiting.update({"web": named, "[::]:80": named, "127.0.0.1:81": placed})
    assert table.activate("web", Place("0.0.0.0", 80, "")) is named
    assert table.activate("other", Place("::", 80, "")) is None
    assert table.activate("other", Place("127.0.0.1", 81, "")) is placed
    assert not table.waiting


def test_the_environment_of_a_command() -> None:
    command = Command("/python", ("python",), (("PATH", "/new"), ("A", "1")), ("PYTHONPATH",))
    own = {"PATH": "/old", "PYTHONPATH": "/x", "HOME": "/root"}
    assert command.environment_of(own) == {"PATH": "/new", "A": "1", "HOME": "/root"}
