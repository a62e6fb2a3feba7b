"""A worker's heartbeat says how far its cells are, and how fast."""

from launch.coordination.presence import Presence, read_beat
from launch.workers.heartbeat_tracker import Following
from tests.launch.workers.cells import names


def test_a_beat_has_the_steps_done_and_to_do_and_the_last_rate(store):
    (cell, other, _) = names(3)
    with Presence(store) as presence:
        presence.begin(cells=(cell, other))
        following = Following(presence, store)
        following.begin(cell, 5)
        following.begin(other, 0)
        following.log(cell, [{"step": 6, "steps_per_second": 1.0}, {"step": 10, "steps_per_second": 2.5}])
        following.log(other, [{"data_seen": 3}])  # a point without a step moves nothing
        presence.beat()
        beat = read_beat(store, presence.worker)
    assert beat.steps == {cell: (10, 20), other: (0, 20)}
    assert beat.rate == 2.5
