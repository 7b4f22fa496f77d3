//! `proxy`: a UDP proxy with faults between two processes, until it is interrupted; or the named scenarios, run with
//! the shipped program.

mod values;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args};
use landfall::ticket::Ticket;
use tokio::signal::unix::{SignalKind, signal};

use super::Common;
use crate::proxy::run::Trial;
use crate::proxy::scenarios::{Pace, SCENARIOS, Scenario, Terms};
use crate::proxy::{Counts, Dials, Direction, KINDS, Outage, Proxy, Rebind, Way};
use crate::rig::process;
use crate::rig::transfer::Listens;
use crate::rng::Odds;
use crate::verdict::{How, Report, Verdict};
use values::Directed;

/// How often counts are shown.
const SHOW_PAUSE: Duration = Duration::from_secs(5);

const ABOUT: &str =
    "UDP proxy with faults between two processes, or (--run) named network scenarios with landfall itself";
const HOW: &str = "\
Between a listening and a dialling landfall: the ticket names the listener's address, so the dialler is given another \
ticket, which names the proxy. In three terminals:

    landfall recv in --listen 127.0.0.1:4000 --write-ticket true.ticket
    fault-inject proxy --ticket true.ticket --write-ticket proxied.ticket --listen 127.0.0.1:4001 --drop 2% --burst 3
    landfall send FILES --ticket-file proxied.ticket

Only the address differs; key and secret are those of the listener. Any other two processes: --to ADDRESS. Once they have \
met, a listener tells the dialler all its addresses, and after a lost link both roads are tried: keep the true one out of \
the dialler's reach (another machine, or a network namespace, as --run does) where links are to be lost.
A value may be for one way: `--drop to-listener=5% --delay to-dialler=20ms`. Shares are of datagrams.

Scenarios (--scenario takes their dials, --run runs them with landfall): ";

/// Options of `proxy`.
#[derive(Debug, Args)]
#[command(about = ABOUT, after_help = help(), group = ArgGroup::new("what").args(["to", "ticket", "run"]).required(true))]
pub(super) struct ProxyCommand {
    /// Listen here for the dialling side.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Pass on to this address.
    #[arg(long, value_name = "ADDRESS")]
    to: Option<SocketAddr>,
    /// Pass on to the first address of this ticket, and write a ticket that leads through the proxy.
    #[arg(long, value_name = "FILE", requires = "write_ticket")]
    ticket: Option<PathBuf>,
    /// Where the ticket that leads through the proxy is written.
    #[arg(long, value_name = "FILE", requires = "ticket")]
    write_ticket: Option<PathBuf>,
    /// Run the scenario with the shipped program and judge what comes of it.
    #[arg(long)]
    run: bool,
    /// A named scenario; `all` with --run.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// With --run: bytes of the large file.
    #[arg(long, value_name = "BYTES", default_value = "8M", value_parser = values::bytes)]
    size: u64,
    /// With --run: length of the long outages.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::time)]
    blackout_length: Duration,
    /// With --run: shorter outages and fewer repetitions, as the matrix has them.
    #[arg(long)]
    quick: bool,
    /// With --run: which side prints the ticket, `receiver` or `sender`.
    #[arg(long, value_name = "SIDE", default_value = "receiver", value_parser = side)]
    listens: Listens,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    faults: Faults,
}

/// The dials as options.
#[derive(Debug, Args)]
#[command(next_help_heading = "Dials")]
struct Faults {
    /// Lost.
    #[arg(long, value_name = "SHARE", value_parser = values::odds)]
    drop: Vec<Directed<Odds>>,
    /// Bits are flipped.
    #[arg(long, value_name = "SHARE", value_parser = values::odds)]
    corrupt: Vec<Directed<Odds>>,
    /// Losses and corruptions come in runs of 1 to so many, at the same share.
    #[arg(long, value_name = "COUNT", value_parser = values::counts)]
    burst: Vec<Directed<u32>>,
    /// At most so many bits are flipped in one datagram.
    #[arg(long, value_name = "COUNT", value_parser = values::counts)]
    corrupt_bits: Vec<Directed<u32>>,
    /// Cut short.
    #[arg(long, value_name = "SHARE", value_parser = values::odds)]
    truncate: Vec<Directed<Odds>>,
    /// Followed by random bytes.
    #[arg(long, value_name = "SHARE", value_parser = values::odds)]
    pad: Vec<Directed<Odds>>,
    /// A hostile one is made up beside it: empty, 65,507 bytes, glued, forged heads, noise.
    #[arg(long, value_name = "SHARE", value_parser = values::odds)]
    garbage: Vec<Directed<Odds>>,
    /// Sent twice.
    #[arg(long, value_name = "SHARE", value_parser = values::odds)]
    duplicate: Vec<Directed<Odds>>,
    /// Sent again later.
    #[arg(long, value_name = "SHARE", value_parser = values::odds)]
    replay: Vec<Directed<Odds>>,
    /// A replay comes up to this late [default: 60s].
    #[arg(long, value_name = "TIME", value_parser = values::times)]
    replay_late: Vec<Directed<Duration>>,
    /// Held back, so that others overtake it.
    #[arg(long, value_name = "SHARE", value_parser = values::odds)]
    reorder: Vec<Directed<Odds>>,
    /// For how long [default: 20ms].
    #[arg(long, value_name = "TIME", value_parser = values::times)]
    reorder_hold: Vec<Directed<Duration>>,
    /// Time on the way.
    #[arg(long, value_name = "TIME", value_parser = values::times)]
    delay: Vec<Directed<Duration>>,
    /// Up to so much more, drawn for each.
    #[arg(long, value_name = "TIME", value_parser = values::times)]
    jitter: Vec<Directed<Duration>>,
    /// Speed of the line, as `10mbit` or `8M` (bytes a second).
    #[arg(long, value_name = "RATE", value_parser = values::rates)]
    rate: Vec<Directed<u64>>,
    /// Datagrams that wait for the line; more are lost [default: 1000].
    #[arg(long, value_name = "COUNT", value_parser = values::sizes)]
    queue: Vec<Directed<usize>>,
    /// Larger datagrams are lost (bytes of UDP payload).
    #[arg(long, value_name = "BYTES", value_parser = values::sizes)]
    mtu: Vec<Directed<usize>>,
    /// Lost by number in their flow, as `to-listener=2-7`.
    #[arg(long, value_name = "LIST", value_parser = values::list)]
    drop_list: Vec<Directed<Vec<(u64, u64)>>>,
    /// Nothing passes: `ON/OFF` by turns, `ON/OFF/once`, or `ON/forever`.
    #[arg(long, value_name = "ON/OFF", value_parser = values::blackout)]
    blackout: Option<Outage>,
    /// Nothing passes this way; with --blackout only at its times.
    #[arg(long, value_name = "to-listener|to-dialler", value_parser = values::way)]
    one_way: Option<Direction>,
    /// The listener sees another port of the dialler after FIRST, then again EVERY so often.
    #[arg(long, value_name = "FIRST/EVERY", value_parser = values::rebind)]
    rebind: Option<Rebind>,
    /// Faults begin when so many bytes have come from both sides; delay, jitter and rate hold from the start.
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    from_bytes: Option<u64>,
    /// Faults begin so long after the start.
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    from: Option<Duration>,
}

fn help() -> String {
    let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    format!("{HOW}{}.", names.join(", "))
}

fn side(text: &str) -> Result<Listens, String> {
    match text {
        "receiver" => Ok(Listens::Receiver),
        "sender" => Ok(Listens::Sender),
        _ => Err("a side is `receiver` or `sender`".to_owned()),
    }
}

impl Faults {
    /// Turns what was given.
    fn turn(&self, dials: &mut Dials) {
        set(dials, &self.drop, |way, value| way.drop = value);
        set(dials, &self.corrupt, |way, value| way.corrupt = value);
        set(dials, &self.burst, |way, value| way.burst = value);
        set(dials, &self.corrupt_bits, |way, value| way.corrupt_bits = value);
        set(dials, &self.truncate, |way, value| way.truncate = value);
        set(dials, &self.pad, |way, value| way.pad = value);
        set(dials, &self.garbage, |way, value| way.garbage = value);
        set(dials, &self.duplicate, |way, value| way.duplicate = value);
        set(dials, &self.replay, |way, value| way.replay = value);
        set(dials, &self.replay_late, |way, value| way.replay_late = value);
        set(dials, &self.reorder, |way, value| way.reorder = value);
        set(dials, &self.reorder_hold, |way, value| way.reorder_hold = value);
        set(dials, &self.delay, |way, value| way.delay = value);
        set(dials, &self.jitter, |way, value| way.jitter = value);
        set(dials, &self.rate, |way, value| way.rate_bytes_per_s = value);
        set(dials, &self.queue, |way, value| way.queue_datagrams = value);
        set(dials, &self.mtu, |way, value| way.mtu_bytes = Some(value));
        set(dials, &self.drop_list, |way, value| way.drop_list = value);
        dials.outage = self.blackout.or(dials.outage);
        if self.one_way.is_some() {
            let outage = self.blackout.unwrap_or(Outage::for_ever(Duration::ZERO));
            dials.outage = Some(Outage { only: self.one_way, ..outage });
        }
        dials.rebind = self.rebind.or(dials.rebind);
        dials.from_bytes = self.from_bytes.unwrap_or(dials.from_bytes);
        dials.from = self.from.unwrap_or(dials.from);
    }
}

fn set<T: Clone>(dials: &mut Dials, values: &[Directed<T>], turn: fn(&mut Way, T)) {
    for directed in values {
        directed.ways.iter().for_each(|way| turn(dials.way_mut(*way), directed.value.clone()));
    }
}

impl ProxyCommand {
    /// Runs scenarios, or the proxy until it is interrupted.
    pub(super) fn run(&self) -> ExitCode {
        let done = if self.run { self.run_scenarios() } else { self.relay() };
        done.unwrap_or_else(|why| {
            eprintln!("the harness failed: {why}");
            ExitCode::from(4)
        })
    }

    fn scenarios(&self) -> Result<Vec<&'static Scenario>, String> {
        match self.scenario.as_deref() {
            None | Some("all") => Ok(SCENARIOS.iter().collect()),
            Some(name) => Scenario::named(name).map(|one| vec![one]).ok_or(format!("there is no scenario `{name}`")),
        }
    }

    fn run_scenarios(&self) -> Result<ExitCode, String> {
        let seed = self.common.seed();
        let pace = if self.quick { Pace::Quick } else { Pace::Full };
        let scenarios = self.scenarios()?;
        process::build_landfall()?;
        let dials = format!("proxy --run size={} pace={pace:?} scenarios={}", self.size, scenarios.len());
        self.common.begin(seed, &dials);
        let mut reports: Vec<Report> = Vec::new();
        for scenario in scenarios {
            let (blackout, size_bytes, listens) = (self.blackout_length, self.size, self.listens);
            let report = Trial { scenario, seed, pace, size_bytes, blackout, listens }.run();
            self.common.show(&report);
            if !self.common.json {
                report.log.iter().filter(|line| !line.contains('\n')).for_each(|line| println!("    {line}"));
            }
            reports.push(report);
        }
        Ok(self.common.end(&reports))
    }

    fn dials(&self) -> Result<Dials, String> {
        let terms = Terms { pace: Pace::Full, size_bytes: self.size, blackout: self.blackout_length, number: 0 };
        let mut dials = match self.scenario.as_deref() {
            Some(name) => Scenario::named(name).ok_or(format!("there is no scenario `{name}`"))?.dials(&terms),
            None => Dials::default(),
        };
        self.faults.turn(&mut dials);
        Ok(dials)
    }

    fn relay(&self) -> Result<ExitCode, String> {
        let seed = self.common.seed();
        let dials = self.dials()?;
        let ticket = self.ticket.as_deref().map(read_ticket).transpose()?;
        let to = self.to.or_else(|| ticket.as_ref().and_then(|ticket| ticket.addresses.first().copied()));
        let to = to.ok_or("there is no address to pass on to")?;
        let failed = |error: std::io::Error| format!("listen on {}: {error}", self.listen);
        let proxy = Proxy::start(self.listen, to, seed, dials.clone()).map_err(failed)?;
        self.common.begin(seed, &format!("proxy listen={} to={to} {dials}", proxy.address()));
        if let (Some(ticket), Some(path)) = (ticket, &self.write_ticket) {
            write_ticket(path, &Ticket { addresses: vec![proxy.address()], ..ticket })?;
        }
        until_interrupted(|| self.show_counts(&proxy.counts())).map_err(|error| error.to_string())?;
        let counts = proxy.counts();
        self.show_counts(&counts);
        Ok(self.common.end(&[relayed(&dials, &counts, seed, to, proxy.address())]))
    }

    fn show_counts(&self, counts: &Counts) {
        if !self.common.json {
            return println!("{}", counts.line());
        }
        let of = |way: Direction| -> serde_json::Value {
            let counted = KINDS.iter().map(|kind| (kind.word().to_owned(), counts.on(way, *kind).into()));
            serde_json::Value::Object(counted.collect())
        };
        let (to_listener, to_dialler) = (of(Direction::ToListener), of(Direction::ToDialler));
        let event = serde_json::json!({ "event": "counts", "to-listener": to_listener, "to-dialler": to_dialler });
        println!("{event}");
    }
}

/// What an interrupted proxy has to say: it judges nothing, but a fault that was asked for and never came is vacuous.
fn relayed(dials: &Dials, counts: &Counts, seed: u64, to: SocketAddr, listen: SocketAddr) -> Report {
    let faults = &KINDS[1..KINDS.len() - 1];
    let injected = faults.iter().map(|kind| counts.of(*kind)).sum();
    let is_calm = *dials == Dials::default();
    let report = Report {
        fault: "proxy".to_owned(),
        how: How::Proxy,
        injected,
        detected: 0,
        repaired: 0,
        verdict: Verdict::Good,
        plan: dials.to_string(),
        log: vec![counts.line()],
        reproduce: format!(
            "fault-inject proxy --listen {listen} --to {to} --seed {seed:#x} with the same dials: {dials}"
        ),
    };
    if is_calm { report } else { report.unless_vacuous() }
}

/// Shows counts now and then, until SIGINT or SIGTERM.
fn until_interrupted(show: impl Fn()) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        loop {
            tokio::select! {
                _ = interrupted.recv() => return Ok(()),
                _ = terminated.recv() => return Ok(()),
                () = tokio::time::sleep(SHOW_PAUSE) => show(),
            }
        }
    })
}

fn read_ticket(path: &Path) -> Result<Ticket, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ticket::decode(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A ticket is a secret: nobody else may read it, and no file of that name is written over.
fn write_ticket(path: &Path, ticket: &Ticket) -> Result<(), String> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| writeln!(file, "{}", ticket.encode()));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        proxy: ProxyCommand,
    }

    fn dials(line: &str) -> Result<Dials, String> {
        let parsed = Line::try_parse_from(format!("x {line}").split_whitespace()).map_err(|error| error.to_string())?;
        parsed.proxy.dials()
    }

    #[test]
    fn options_turn_the_dials_of_their_ways() {
        let text = |line: &str| dials(line).map(|dials| dials.to_string());
        let to = "--to 127.0.0.1:1";
        assert_eq!(text(&format!("{to} --drop 2% --burst 3")), Ok("drop=2% burst=3".to_owned()));
        let one = text(&format!("{to} --drop to-listener=2% --delay to-dialler=5ms"));
        assert_eq!(one, Ok("to-listener:drop=2% to-dialler:delay=5ms".to_owned()));
        let dead = dials(&format!("{to} --one-way to-dialler --from-bytes 1M")).map(|it| (it.outage, it.from_bytes));
        let for_ever = Outage { only: Some(Direction::ToDialler), ..Outage::for_ever(Duration::ZERO) };
        assert_eq!(dead, Ok((Some(for_ever), 1 << 20)));
        let more = dials(&format!("{to} --scenario transfer-loss --delay 1ms")).map(|it| it.to_listener);
        assert_eq!(more.map(|way| (way.delay, way.burst)), Ok((Duration::from_millis(1), 3)));
    }

    #[test]
    fn there_is_somewhere_to_pass_on_to_and_the_scenario_exists() {
        assert!(dials("--drop 2%").is_err() && dials("--to 127.0.0.1:1 --scenario none").is_err());
        assert!(dials("--ticket a").is_err(), "a ticket without a place for the other one");
    }
}
