//! The controller on simulated links: how much of each it fills, how long a queue it leaves, how fast it follows, and
//! what it leaves to others. Unless a test says otherwise the link is one of 100 Mbit/s, 80 ms and a queue as long as
//! the path.

use super::link_sim::{Brain, Cubic, Flow, Link, Simulation};

const FOREVER: u64 = u64::MAX;
const SEEDS: u64 = 3;

fn wan() -> Link {
    Link::new(100, 80, 100)
}

fn alone(link: Link, seed: u64) -> Simulation {
    let mut simulation = Simulation::new(link, seed);
    simulation.flows.push(simulation.ours());
    simulation
}

fn cubic() -> Flow {
    Flow::new(Brain::Cubic(Cubic::new()))
}

/// The first second after `from_s` in which that share of the link's rate arrived, in tenths.
fn tenths_until(simulation: &Simulation, from_s: usize, share: f64) -> usize {
    let wanted = simulation.link.bytes_per_second as f64 / 10.0 * share;
    let arrived = &simulation.flows[0].arrived;
    let is_full = |tenth: usize| arrived[tenth..tenth + 5].iter().sum::<u64>() as f64 >= 5.0 * wanted;
    (from_s * 10..arrived.len() - 5).find(|tenth| is_full(*tenth)).expect("it never came back") - from_s * 10
}

/// What everything else is measured against: the simulated CUBIC does what a real one does.
#[test]
fn a_cubic_flow_fills_a_clean_path_and_falls_on_a_lossy_one() {
    for (loss, least, most) in [(0.0, 0.85, 1.01), (0.001, 0.02, 0.3)] {
        let mut simulation = Simulation::new(wan().with_loss(loss, 1.0), 0);
        simulation.flows.push(cubic());
        simulation.run(42_000);
        let share = simulation.share(0, 2, 42);
        assert!((least..=most).contains(&share), "loss {loss}: {share:.3}");
    }
}

#[test]
fn a_path_is_filled_whatever_it_loses_at_random() {
    for (loss, wanted) in [(0.0, 0.97), (0.001, 0.97), (0.01, 0.96), (0.03, 0.94), (0.1, 0.86)] {
        for seed in 0..SEEDS {
            let mut simulation = alone(wan().with_loss(loss, 1.0), seed);
            simulation.run(22_000);
            let share = simulation.share(0, 2, 22);
            assert!(share >= wanted, "loss {loss}, seed {seed}: {share:.3}");
            assert!(simulation.queue_max(2, 22) < 0.75, "loss {loss}, seed {seed}: {:.2}", simulation.queue_max(2, 22));
        }
    }
}

#[test]
fn bursts_of_loss_are_not_taken_for_a_full_path() {
    for seed in 0..SEEDS {
        let mut simulation = alone(wan().with_loss(0.02, 8.0), seed);
        simulation.run(22_000);
        let share = simulation.share(0, 2, 22);
        assert!(share >= 0.9, "seed {seed}: {share:.3}");
    }
}

#[test]
fn a_path_is_full_within_a_second_from_the_start() {
    let mut simulation = alone(wan(), 0);
    simulation.run(5000);
    assert!(tenths_until(&simulation, 0, 0.95) <= 8);
}

#[test]
fn a_short_queue_overflows_for_a_small_part_only() {
    let mut simulation = alone(Link::new(100, 80, 10), 0);
    simulation.run(32_000);
    let share = simulation.share(0, 2, 32);
    let sent = simulation.flows[0].arrived.iter().sum::<u64>() / super::link_sim::PACKET_BYTES;
    let lost = simulation.flows[0].lost_packets as f64 / sent as f64;
    assert!(share >= 0.95 && lost < 0.02, "share {share:.3}, lost {lost:.4}");
}

#[test]
fn a_deep_queue_stays_mostly_empty() {
    let mut simulation = alone(Link::new(100, 80, 1000), 0);
    simulation.run(30_000);
    let (share, queue) = (simulation.share(0, 5, 30), simulation.queue_max(5, 30));
    assert!(share >= 0.97 && queue < 0.75, "share {share:.3}, queue {queue:.2}");
    assert_eq!(simulation.flows[0].lost_packets, 0);
}

#[test]
fn small_and_large_paths_are_filled() {
    for link in [Link::new(1, 40, 400).with_loss(0.01, 1.0), Link::new(1000, 1, 800), Link::new(20, 600, 100)] {
        let mut simulation = alone(link, 0);
        simulation.run(20_000);
        let share = simulation.share(0, 8, 20);
        assert!(share >= 0.9, "{link:?}: {share:.3}");
    }
}

#[test]
fn a_wider_path_is_found_within_seconds() {
    let mut simulation = alone(Link::new(20, 80, 100), 0);
    simulation.change_at(10_000, wan());
    simulation.run(20_000);
    let tenths = tenths_until(&simulation, 10, 0.9);
    assert!(tenths <= 30, "{tenths} tenths of a second");
}

#[test]
fn a_narrower_path_is_followed_within_seconds() {
    let mut simulation = alone(wan(), 0);
    simulation.change_at(10_000, Link::new(20, 80, 100));
    simulation.run(30_000);
    let (share, queue) = (simulation.share(0, 13, 30), simulation.queue_max(20, 30));
    assert!(share >= 0.9 && queue < 0.9, "share {share:.3}, queue {queue:.2}");
    let before = simulation.flows[0].lost_packets;
    simulation.run(40_000);
    let lost = (simulation.flows[0].lost_packets - before) as f64;
    assert!(lost < 0.01 * 20e6 * 10.0 / 8.0 / 1400.0, "{lost} packets are still lost");
}

#[test]
fn the_rate_is_back_at_once_after_an_outage() {
    let there = wan().with_loss(0.01, 1.0);
    let one_way = [Link { is_down_forth: true, ..there }, Link { is_down_back: true, ..there }];
    for down in [there.down(), one_way[0], one_way[1]] {
        let mut simulation = alone(there, 0);
        simulation.change_at(5000, down);
        simulation.change_at(15_000, there);
        simulation.run(40_000);
        // The first probe that gets through may be sent as late as the outage was long.
        let first =
            (150..400).find(|tenth| simulation.flows[0].arrived[*tenth] > 0).expect("nothing ever arrived") / 10;
        let tenths = tenths_until(&simulation, first, 0.9);
        assert!(tenths <= 20, "{down:?}: {tenths} tenths of a second after second {first}");
    }
}

#[test]
fn an_idle_sender_starts_again_where_it_was() {
    let mut simulation = Simulation::new(wan(), 0);
    simulation.flows.push(simulation.ours().active(&[(0, 5000), (30_000, 35_000)]));
    simulation.run(40_000);
    let tenths = tenths_until(&simulation, 30, 0.95);
    assert!(tenths <= 3, "{tenths} tenths of a second");
    let queue = simulation.queue_max(30, 35);
    assert!(queue < 0.75, "{queue:.2}");
}

#[test]
fn a_cubic_flow_and_ours_each_get_their_part() {
    for queue_percent in [50, 100, 200] {
        for (ours, theirs) in [(0, 5000), (5000, 0)] {
            let mut simulation = Simulation::new(Link::new(100, 80, queue_percent), 0);
            simulation.flows.push(simulation.ours().active(&[(ours, FOREVER)]));
            simulation.flows.push(cubic().active(&[(theirs, FOREVER)]));
            simulation.run(65_000);
            let (ours, theirs) = (simulation.share(0, 5, 65), simulation.share(1, 5, 65));
            // On a short queue CUBIC falls by itself; on a long one it takes minutes to share.
            let least = if queue_percent < 100 { 0.1 } else { 0.3 };
            let least_ours = if queue_percent > 100 { 0.2 } else { 0.3 };
            let text = format!("queue {queue_percent}: ours {ours:.2}, theirs {theirs:.2}");
            assert!(ours >= least_ours && theirs >= least, "{text}");
            assert!(ours + theirs >= 0.95, "{text}");
        }
    }
}

#[test]
fn a_flow_that_comes_later_gets_its_part() {
    for queue_percent in [100, 200] {
        let mut simulation = Simulation::new(Link::new(100, 80, queue_percent), 0);
        simulation.flows.push(simulation.ours());
        simulation.flows.push(simulation.ours().active(&[(5000, FOREVER)]));
        simulation.run(65_000);
        let (first, second) = (simulation.share(0, 5, 65), simulation.share(1, 5, 65));
        assert!(first >= 0.3 && second >= 0.3, "queue {queue_percent}: {first:.2} and {second:.2}");
    }
}

#[test]
fn a_queue_is_left_once_the_rival_is_gone() {
    let mut simulation = Simulation::new(wan(), 0);
    simulation.flows.push(simulation.ours());
    simulation.flows.push(cubic().active(&[(5000, 30_000)]));
    simulation.run(60_000);
    let (share, queue) = (simulation.share(0, 45, 60), simulation.queue_max(45, 60));
    assert!(share >= 0.95 && queue < 0.75, "share {share:.3}, queue {queue:.2}");
}
