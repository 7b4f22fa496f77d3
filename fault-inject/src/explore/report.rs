//! What a search found, in the words that all commands of the harness share.

use std::fmt;

use super::search::KINDS;
use super::{Found, Mark, Options, Violation, search};
use crate::verdict::{How, Report, Verdict};

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { states_max, departures_max, ends, losses, doubles, faults, broken } = self;
        write!(f, "states<={states_max} departures<={departures_max} ends<={ends}+{ends} losses<={losses} ")?;
        write!(f, "doubles<={doubles} faults<={faults}")?;
        broken.map_or(Ok(()), |broken| write!(f, " broken={broken:?}"))
    }
}

impl Found {
    fn verdict(&self) -> Verdict {
        let missing: Vec<String> =
            Mark::ALL.into_iter().filter(|mark| !self.has(*mark)).map(|mark| format!("{mark:?}")).collect();
        match &self.violation {
            Some((Violation::Wrong(what), _)) => Verdict::Wrong(what.clone()),
            Some((Violation::Stuck(what), _)) => Verdict::Stuck(what.clone()),
            None if !missing.is_empty() => Verdict::Vacuous,
            None => Verdict::Good,
        }
    }

    fn lines(&self) -> Vec<String> {
        let reached = Mark::ALL.into_iter().filter(|mark| self.has(*mark)).count();
        let missing: Vec<String> =
            Mark::ALL.into_iter().filter(|mark| !self.has(*mark)).map(|mark| format!("{mark:?}")).collect();
        let complete = match (self.is_exhausted, self.complete_to) {
            (true, _) => "every state within these bounds was visited".to_owned(),
            (false, Some(departures)) => format!("every state within {departures} departures was visited"),
            (false, None) => "not even the ordinary course was followed to its end".to_owned(),
        };
        let mut lines = vec![
            format!("{} distinct states, {} moves, paths of up to {} moves", self.states, self.moves, self.depth_max),
            complete,
            format!("{reached} of {} marks reached", Mark::ALL.len()),
        ];
        lines.extend((!missing.is_empty()).then(|| format!("never reached: {}", missing.join(", "))));
        if let Some((_, trace)) = &self.violation {
            lines.push("the moves that lead there (* is a departure from the ordinary course):".into());
            lines.extend(trace.iter().cloned());
        }
        lines
    }
}

/// Searches and judges. What is injected is counted in moves that something went wrong in; it is detected and
/// repaired where every such kind was noticed and every course from every state ended well.
pub fn report(options: Options) -> Report {
    let reproduce =
        format!("fault-inject explore --states {} --departures {}", options.states_max, options.departures_max);
    let plan = options.to_string();
    let (fault, how) = ("all states of both session machines".to_owned(), How::Search);
    let found = match search(options) {
        Ok(found) => found,
        Err(why) => {
            let verdict = Verdict::Failed(why);
            return Report { verdict, plan, reproduce, ..Report::skipped(&fault, how, "") };
        }
    };
    let verdict = found.verdict();
    let injected = found.struck.iter().sum();
    let detected =
        KINDS.iter().zip(found.struck).filter(|((_, seen), _)| found.has(*seen)).map(|(_, count)| count).sum();
    let repaired = if verdict == Verdict::Good { detected } else { 0 };
    Report { fault, how, injected, detected, repaired, verdict, plan, log: found.lines(), reproduce }.unless_vacuous()
}
