//! Rules as one writes them on a command line: `OPERATION[@PART] WHEN EFFECT`, as in `write@staging each:3 corrupt:4k`
//! or `sync nth:2 fail-sync:lost`. PART is anything that the path holds.

use std::fmt;
use std::str::FromStr;

use super::{Effect, Lasting, NameMatch, On, Rule, Unsynced, When};
use crate::damage::Damage;
use crate::errno;
use crate::operation::Operation;
use crate::rng::Odds;

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.on {
            On::Any => f.write_str("any")?,
            On::Changes => f.write_str("changes")?,
            On::Only(operation) => f.write_str(operation.word())?,
        }
        match &self.name {
            NameMatch::Any => (),
            NameMatch::Suffix(part) => write!(f, "@{}$", part.escape_ascii())?,
            NameMatch::Contains(part) => write!(f, "@{}", part.escape_ascii())?,
        }
        write!(f, " {} {}", self.when, self.effect)
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Nth(nth) => write!(f, "nth:{nth}"),
            When::From(first) => write!(f, "from:{first}"),
            When::First(count) => write!(f, "first:{count}"),
            When::EachNth(nth) => write!(f, "each:{nth}"),
            When::Every => f.write_str("every"),
            When::Chance(odds) => write!(f, "chance:{}", odds.millionths()),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Errno(number) => write!(f, "errno:{}", errno::word(*number)),
            Effect::Lie => f.write_str("lie"),
            Effect::ShortWrite { kept_bytes } => write!(f, "short:{kept_bytes}"),
            Effect::TornWrite { kept_bytes, errno } => write!(f, "torn:{kept_bytes}:{}", errno::word(*errno)),
            Effect::CorruptWrite(damage) => write!(f, "corrupt:{}", damage.word()),
            Effect::CorruptUncachedRead(damage, lasting) => {
                write!(f, "corrupt-uncached:{}:{}", damage.word(), lasting.word())
            }
            Effect::CorruptCachedRead(damage) => write!(f, "corrupt-cached:{}", damage.word()),
            Effect::FailSync(Unsynced::Kept) => f.write_str("fail-sync:kept"),
            Effect::FailSync(Unsynced::Lost) => f.write_str("fail-sync:lost"),
            Effect::Delay { ms } => write!(f, "delay:{ms}"),
            Effect::Kill => f.write_str("kill"),
        }
    }
}

impl Lasting {
    const ALL: [Lasting; 3] = [Lasting::Once, Lasting::UntilRewritten, Lasting::Always];

    fn word(self) -> &'static str {
        match self {
            Lasting::Once => "once",
            Lasting::UntilRewritten => "until-rewritten",
            Lasting::Always => "always",
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Rule, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [on, when, effect] = words[..] else {
            return Err(format!("`{text}` is not `OPERATION[@PART] WHEN EFFECT`"));
        };
        let (on, name) = match on.split_once('@') {
            None => (on, NameMatch::Any),
            Some((on, part)) => match part.strip_suffix('$') {
                Some(part) => (on, NameMatch::suffix(part)),
                None => (on, NameMatch::contains(part)),
            },
        };
        let on = match on {
            "any" => On::Any,
            "changes" => On::Changes,
            word => On::Only(Operation::of_word(word).ok_or_else(|| format!("there is no operation `{word}`"))?),
        };
        let rule = Rule { on, name, when: when.parse()?, effect: effect.parse()? };
        if !rule.effect.fits(on) || rule.when == When::EachNth(0) {
            return Err(format!("`{text}` cannot happen"));
        }
        Ok(rule)
    }
}

fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn number(text: &str) -> Result<i32, String> {
    errno::of_word(text).or_else(|| text.parse().ok()).ok_or_else(|| format!("there is no error `{text}`"))
}

fn damage(text: &str) -> Result<Damage, String> {
    Damage::of_word(text).ok_or_else(|| format!("there is no size `{text}`: bit, 512, 4k or 64k"))
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        Ok(match text.split_once(':') {
            None if text == "every" => When::Every,
            Some(("nth", nth)) => When::Nth(count(nth)?),
            Some(("from", first)) => When::From(count(first)?),
            Some(("first", times)) => When::First(count(times)?),
            Some(("each", nth)) => When::EachNth(count(nth)?),
            Some(("chance", millionths)) => {
                let millionths = u32::try_from(count(millionths)?).map_err(|_| format!("`{text}` is no chance"))?;
                When::Chance(Odds::per_million(millionths))
            }
            _ => return Err(format!("`{text}` is no moment: nth:, from:, first:, each:, chance: or every")),
        })
    }
}

impl FromStr for Effect {
    type Err = String;

    fn from_str(text: &str) -> Result<Effect, String> {
        let bytes = |text: &str| Ok::<_, String>(usize::try_from(count(text)?).unwrap_or(usize::MAX));
        let words: Vec<&str> = text.split(':').collect();
        Ok(match words[..] {
            ["errno", name] => Effect::Errno(number(name)?),
            ["lie"] => Effect::Lie,
            ["short", kept] => Effect::ShortWrite { kept_bytes: bytes(kept)? },
            ["torn", kept, name] => Effect::TornWrite { kept_bytes: bytes(kept)?, errno: number(name)? },
            ["corrupt", size] => Effect::CorruptWrite(damage(size)?),
            ["corrupt-cached", size] => Effect::CorruptCachedRead(damage(size)?),
            ["corrupt-uncached", size, word] => {
                let lasting = Lasting::ALL.into_iter().find(|lasting| lasting.word() == word);
                Effect::CorruptUncachedRead(damage(size)?, lasting.ok_or_else(|| format!("`{word}` is no duration"))?)
            }
            ["fail-sync", "kept"] => Effect::FailSync(Unsynced::Kept),
            ["fail-sync", "lost"] => Effect::FailSync(Unsynced::Lost),
            ["delay", ms] => Effect::Delay { ms: count(ms)? },
            ["kill"] => Effect::Kill,
            _ => return Err(format!("there is no effect `{text}`")),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_rule_reads_back_as_it_was_written() {
        for text in [
            "write@staging each:3 corrupt:4k",
            "sync nth:2 fail-sync:lost",
            "any@journal$ from:7 errno:EIO",
            "read-uncached chance:250000 corrupt-uncached:bit:until-rewritten",
            "write first:1 torn:100:ENOSPC",
            "changes every kill",
            "rename-no-replace every lie",
            "sync-dir nth:1 delay:50",
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused_with_the_reason() {
        for (text, reason) in [
            ("write every", "is not"),
            ("wrote every lie", "no operation `wrote`"),
            ("write often lie", "no moment"),
            ("write each:0 lie", "cannot happen"),
            ("read-cached every lie", "cannot happen"),
            ("write every errno:EWHAT", "no error `EWHAT`"),
            ("write every corrupt:1g", "no size"),
        ] {
            let error = text.parse::<Rule>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
