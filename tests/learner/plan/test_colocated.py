import pytest

from learner.plan.colocated import colocate, other_way


def test_a_run_with_actors_can_generate_in_the_learner_instead(make_run):
    config = make_run("unused", roles={"actor": 3})
    way = other_way(config)
    assert way is not None
    assert way == colocate(config)
    assert way.name == "colocated"
    assert way.setting == "learner.colocated_actor=true, roles.actor=0"
    assert (way.config.learner.colocated_actor, way.config.roles.actor) == (True, 0)
    same = way.config.model_copy(update={"learner": config.learner, "roles": config.roles})
    assert same == config
    assert type(config).model_validate(way.config.model_dump()) == way.config


@pytest.mark.parametrize(("actors", "then"), [(0, 1), (2, 2)])
def test_a_colocated_run_can_have_actors_of_its_own_instead(make_run, actors, then):
    config = make_run("unused", roles={"actor": actors}, learner={"colocated_actor": True})
    assert colocate(config) is None
    way = other_way(config)
    assert way is not None
    assert way.name == "separate actors"
    assert way.setting == f"learner.colocated_actor=false, roles.actor={then}"
    assert (way.config.learner.colocated_actor, way.config.roles.actor) == (False, then)


def test_a_run_whose_actors_are_elsewhere_has_no_other_way(make_run):
    assert other_way(make_run("unused", roles={"actor": 0})) is None


@pytest.mark.parametrize(("stale", "possible"), [(1, False), (0, True)])
def test_nothing_is_named_that_the_config_refuses(make_run, stale, possible):
    config = make_run(
        "unused",
        generation={"in_flight_weight_updates": False},
        learner={"max_off_policy_steps": stale},
    )
    assert (colocate(config) is not None) is possible
