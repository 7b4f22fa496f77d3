//! The code: three words of the English list of BIP-0039. The first is the *nameplate*, which is announced; the other two
//! are the password, which is not.
//!
//! `words.txt` is the list as published, byte for byte: the reference implementation of BIP-0039 (python-mnemonic) has it
//! under the MIT licence, and the crate `bip39` under CC0-1.0.

use std::fmt;

use thiserror::Error;

use crate::net::{NoRandomness, random};

const LIST: &str = include_str!("words.txt");
const WORDS_PER_CODE: usize = 3;
/// Bits that choose one word of the list.
const BITS_PER_WORD: u32 = 11;
/// Letters after which no two words of the list are the same.
const PREFIX_LETTERS: usize = 4;

/// What a receiver shows and a sender types. It is shown on purpose with [`Code::text`] and in no other way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code {
    words: [u16; WORDS_PER_CODE],
}

/// Why a text is not a code. It repeats no letter of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodeError {
    /// Not three words.
    #[error("a code has three words, and this has {0}")]
    Count(usize),
    /// A word that is not in the list, counted from one.
    #[error("word {0} is not a word of any code: look at it again")]
    Word(usize),
}

impl Code {
    /// A new code that nobody can guess better than any other.
    pub(super) fn random() -> Result<Code, NoRandomness> {
        let bits = u64::from_be_bytes(random()?);
        let word = |index: u32| u16::try_from(bits >> (index * BITS_PER_WORD) & mask()).expect("eleven bits fit");
        Ok(Code { words: [word(0), word(1), word(2)] })
    }

    /// Reads what somebody typed: any case, words apart by white space or hyphens, each whole or its first four letters.
    pub fn parse(text: &str) -> Result<Code, CodeError> {
        let typed: Vec<&str> =
            text.split(|c: char| c.is_whitespace() || c == '-').filter(|word| !word.is_empty()).collect();
        let Ok(typed) = <[&str; WORDS_PER_CODE]>::try_from(typed.as_slice()) else {
            return Err(CodeError::Count(typed.len()));
        };
        let mut words = [0; WORDS_PER_CODE];
        for (index, word) in typed.iter().enumerate() {
            words[index] = number(word).ok_or(CodeError::Word(index + 1))?;
        }
        Ok(Code { words })
    }

    /// The text that is shown and typed.
    pub fn text(&self) -> String {
        self.words.map(word).join("-")
    }

    /// The word that is announced.
    pub fn nameplate(&self) -> &'static str {
        word(self.words[0])
    }

    /// The number of that word.
    pub(super) fn nameplate_number(&self) -> u16 {
        self.words[0]
    }

    /// The bytes of the other two.
    pub(super) fn password(&self) -> Vec<u8> {
        [self.words[1].to_be_bytes(), self.words[2].to_be_bytes()].concat()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code")
    }
}

/// Whether a text is meant to be a code, for places where none must stand.
pub fn looks_like_code(text: &str) -> bool {
    Code::parse(text).is_ok()
}

fn mask() -> u64 {
    (1 << BITS_PER_WORD) - 1
}

fn word(number: u16) -> &'static str {
    LIST.lines().nth(number.into()).expect("a number of a code is below the length of the list")
}

/// The number of the one word that is meant.
fn number(typed: &str) -> Option<u16> {
    let typed = typed.to_ascii_lowercase();
    let is_meant = |word: &str| word == typed || typed.len() >= PREFIX_LETTERS && word.starts_with(&typed);
    let index = LIST.lines().position(is_meant)?;
    u16::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_list_is_the_published_one() {
        // Lines, order and prefixes as BIP-0039 promises them; its first and last words, and some between.
        let words: Vec<&str> = LIST.lines().collect();
        assert_eq!(words.len(), 1 << BITS_PER_WORD);
        assert!(words.is_sorted());
        let prefixes: HashSet<String> = words.iter().map(|word| word.chars().take(PREFIX_LETTERS).collect()).collect();
        assert_eq!(prefixes.len(), words.len());
        assert_eq!((words[0], words[1020], words[1024], words[2047]), ("abandon", "legend", "length", "zoo"));
    }

    #[test]
    fn what_people_do_to_a_code_is_undone() {
        let code = Code::parse("action-zoo-legend").unwrap();
        assert_eq!(code.text(), "action-zoo-legend");
        assert_eq!(code.nameplate(), "action");
        for typed in ["ACTION zoo Legend", " acti\tZOO lege\r\n", "actio--zoo - legend", "action\nzoo\nlegend\n"] {
            assert_eq!(Code::parse(typed).unwrap(), code, "{typed}");
        }
    }

    #[test]
    fn what_is_no_code_is_said_without_its_letters() {
        assert_eq!(Code::parse("").unwrap_err(), CodeError::Count(0));
        assert_eq!(Code::parse("action zoo").unwrap_err(), CodeError::Count(2));
        assert_eq!(Code::parse("action zoo legend zoo").unwrap_err(), CodeError::Count(4));
        assert_eq!(Code::parse("action zoo legendary").unwrap_err(), CodeError::Word(3));
        assert_eq!(
            Code::parse("action act abo").unwrap_err(),
            CodeError::Word(3),
            "three letters are a word or nothing"
        );
        assert_eq!(Code::parse("äction zoo zoo").unwrap_err(), CodeError::Word(1));
        for name in ["photos", "my-holiday-photos", "a-b-c", "action.zoo.legend"] {
            assert!(!looks_like_code(name), "{name}");
        }
        assert!(looks_like_code("Action zoo-legend"));
        assert_eq!(format!("{:?}", Code::parse("action zoo legend").unwrap()), "Code");
    }

    #[test]
    fn random_codes_differ_and_reach_both_ends_of_the_list() {
        let codes: HashSet<String> = (0..200).map(|_| Code::random().unwrap().text()).collect();
        assert_eq!(codes.len(), 200, "of 2^33 codes no two of 200 are the same");
        let words: HashSet<&str> = codes.iter().flat_map(|code| code.split('-')).collect();
        assert!(words.iter().any(|word| *word < "cart") && words.iter().any(|word| *word > "spin"));
    }

    proptest! {
        #[test]
        fn every_code_survives_its_text_and_its_prefixes(words: [u16; 3]) {
            let code = Code { words: words.map(|word| word % 2048) };
            prop_assert_eq!(Code::parse(&code.text()).unwrap(), code);
            let short: Vec<String> = code.text().split('-').map(|word| word.chars().take(4).collect()).collect();
            prop_assert_eq!(Code::parse(&short.join(" ")).unwrap(), code);
        }

        #[test]
        fn any_text_parses_or_fails_without_panic(text in "\\PC*") {
            let _ = Code::parse(&text);
        }
    }
}
