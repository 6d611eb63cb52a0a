"""The ledger: incarnations only grow, whatever dies in between."""

from radixroute.deploy.state.ledger import Ledger, MemoryStore


def test_an_incarnation_is_on_record_before_it_is_used():
    store = MemoryStore()
    issued = Ledger.open(store).issue("worker-0")
    assert Ledger.open(store).incarnation_by_name == {"worker-0": issued}


def test_incarnations_grow_across_reopenings_and_names():
    store = MemoryStore()
    issued = [Ledger.open(store).issue(name) for name in ("worker-0", "router", "worker-0")]
    assert issued == [1, 2, 3]


def test_a_retired_name_has_no_life_but_its_number_is_spent():
    store = MemoryStore()
    ledger = Ledger.open(store)
    ledger.issue("worker-0")
    ledger.retire("worker-0")
    again = Ledger.open(store)
    assert again.incarnation_by_name == {}
    assert again.issue("worker-0") == 2


def test_port_and_policy_survive():
    store = MemoryStore()
    ledger = Ledger.open(store)
    ledger.keep_port(50051)
    ledger.keep_policy("random")
    again = Ledger.open(store)
    assert (again.router_port, again.policy) == (50051, "random")
