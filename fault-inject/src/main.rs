fn main() {
    let a: Vec<String> = std::env::args().collect();
    let from: u64 = a[1].parse().unwrap();
    let n: u64 = a[2].parse().unwrap();
    let verbose = a.len() > 3;
    let mut cov = fault_inject::simulator::Coverage::default();
    let t = std::time::Instant::now();
    let mut bad = 0;
    let mut steps = 0;
    for seed in from..from + n {
        let options = fault_inject::simulator::Options { is_verbose: verbose, ..Default::default() };
        let r = std::panic::catch_unwind(|| fault_inject::simulator::run_seed(seed, &options));
        let Ok(r) = r else {
            println!("PANIC {seed}");
            bad += 1;
            continue;
        };
        let r = r.unwrap();
        cov.merge(&r.coverage);
        steps += r.steps;
        for l in r.log {
            println!("{l}");
        }
        if let Err(e) = &r.result {
            bad += 1;
            println!("{seed} {e:?}\n   {}", r.plan);
        }
    }
    for (w, c) in cov.all() {
        println!("{c:8} {w}");
    }
    println!("bad {bad} steps {steps} {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
}
