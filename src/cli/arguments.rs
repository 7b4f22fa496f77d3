//! The command line as it is typed: commands, options, and the texts of `--help`. It owns the words and their
//! shapes, not what they lead to: `settings` turns them into options of the library.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::values::{
    ExistingWord, LevelWord, NewLimit, Patience, parse_bytes, parse_limit, parse_patience, parse_rate,
};

const ABOUT: &str = "Move files between two machines and prove that they arrived on the receiver's disk";
const LINK: &str = "How the sides meet";
const SENDER: &str = "At the sender (`recv` forwards them with --from)";
const RECEIVER: &str = "At the receiver (`send` forwards them with --to)";
const SENDER_ALONE: &str = "At the sender";
const RECEIVER_ALONE: &str = "At the receiver";
const SHOWN: &str = "What is shown";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "landfall", version, about = ABOUT, disable_help_subcommand = true, max_term_width = 100)]
pub(super) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// One command.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Send files and directories
    ///
    /// `x` and `x/` arrive as `x`; `.` and `x/.` as their contents. Without --ticket, --ticket-file and --to this side
    /// listens and prints a ticket for the other one.
    Send(SendArguments),
    /// Receive into a directory
    ///
    /// Without --ticket, --ticket-file and --from this side listens and prints a ticket for the other one.
    Recv(RecvArguments),
    /// Continue unfinished transfers, all or one
    Resume(ResumeArguments),
    /// Show what is durable, what is missing, and who waits for whom
    Status(StatusArguments),
    /// Compare a directory with a receipt: is everything still what was received?
    ///
    /// Every file that the receipt calls delivered is read past the cache and hashed; sizes, modes, times, links and
    /// directories are compared. Times of directories are not: whatever is added or removed there changes them.
    Verify(VerifyArguments),
    /// Drop what is kept here of a transfer, so that nothing continues it
    ///
    /// At a receiver that is also what has come and is not under its name yet. Files that are, and receipts, stay.
    Forget(ForgetArguments),
    /// Limit the rate of a transfer that a process on this machine works on
    Limit(LimitArguments),
    /// Show this installation's fingerprint and where its key is
    Id(IdArguments),
    /// Print what a shell needs to complete command lines
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual page, as `landfall man | man -l -` shows it
    Man,
    /// The other side of --to and --from; its options come on standard input
    #[command(hide = true)]
    Child,
}

/// `landfall send`.
#[derive(Debug, Args)]
pub(super) struct SendArguments {
    /// Files and directories to send; `-` is standard input, which is read to its end first
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// What standard input is to be called where it arrives
    #[arg(long, value_name = "NAME", help_heading = SENDER_ALONE)]
    pub(super) name: Option<OsString>,
    /// Send to this directory: `DIR` on this machine, over loopback, or `[user@]host:PATH`, started there through ssh
    #[arg(long, value_name = "DEST", help_heading = LINK, conflicts_with_all = ["ticket", "ticket_file", "lan"])]
    pub(super) to: Option<OsString>,
    #[command(flatten)]
    pub(super) sender: SenderArguments,
    #[command(flatten)]
    pub(super) both: BothArguments,
    #[command(flatten)]
    pub(super) receiver: ReceiverArguments,
}

/// `landfall recv`.
#[derive(Debug, Args)]
pub(super) struct RecvArguments {
    /// Target directory; it is made if it is not there
    #[arg(default_value = ".", value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Write the one file that comes to standard output, once all of it is verified; the rest goes to standard error
    #[arg(long, help_heading = RECEIVER_ALONE, conflicts_with_all = ["dir", "json", "existing"])]
    pub(super) stdout: bool,
    /// Receive this: `PATH` on this machine, over loopback, or `[user@]host:PATH`, started there through ssh
    #[arg(long, value_name = "SRC", help_heading = LINK, conflicts_with_all = ["ticket", "ticket_file", "lan"])]
    pub(super) from: Option<OsString>,
    #[command(flatten)]
    pub(super) sender: SenderArguments,
    #[command(flatten)]
    pub(super) both: BothArguments,
    #[command(flatten)]
    pub(super) receiver: ReceiverArguments,
}

/// Options that only a sender has a use for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct SenderArguments {
    /// Leave out what matches this pattern, as in a .gitignore; may be given several times
    ///
    /// A pattern is matched against the path under which something would arrive: `*.tmp` and `build/` at any depth,
    /// `/photos/raw` from the top. Nothing below a directory that is left out goes.
    #[arg(long, value_name = "GLOB", help_heading = SENDER)]
    pub(super) exclude: Vec<String>,
    /// Send what matches this pattern although another one leaves it out
    #[arg(long, value_name = "GLOB", help_heading = SENDER)]
    pub(super) include: Vec<String>,
    /// Leave out what matches a line of this file, which is written like a .gitignore
    #[arg(long, value_name = "FILE", help_heading = SENDER)]
    pub(super) exclude_from: Vec<PathBuf>,
    /// Send of the directory PATH only what this file lists, a path below it on each line; `-` is standard input
    ///
    /// A listed directory goes with everything in it. Where the file holds a NUL byte, one ends each path. What is listed
    /// and not there is named, and makes exit 5.
    #[arg(long, value_name = "FILE", help_heading = SENDER)]
    pub(super) files_from: Option<PathBuf>,
    /// Send only files that have the digests in this file, which holds what b3sum prints; `-` is standard input
    ///
    /// A path is that of a file as b3sum was given it here, or that under which it arrives. Each file that differs, has no
    /// digest, or is listed and not among the sources, is left out and named, and makes exit 5.
    #[arg(long, value_name = "FILE", help_heading = SENDER)]
    pub(super) expect: Option<PathBuf>,
    /// Leave out what the .gitignore and .ignore files below the sources leave out
    #[arg(long, help_heading = SENDER)]
    pub(super) ignore_files: bool,
    /// Send of a directory where another file system is mounted its name only
    #[arg(short = 'x', long, help_heading = SENDER)]
    pub(super) one_file_system: bool,
    /// Read each file a second time, past the cache where that can be done; it is finished only if both readings agree
    ///
    /// A transfer that goes on does not read again what it had read to its end before.
    #[arg(long, help_heading = SENDER)]
    pub(super) reread_source: bool,
}

/// Options of both roles.
#[derive(Debug, Args)]
pub(super) struct BothArguments {
    /// Dial with a ticket: from LANDFALL_TICKET, else asked for, else the first line of standard input
    #[arg(long, help_heading = LINK, conflicts_with = "ticket_file")]
    pub(super) ticket: bool,
    /// Dial with the ticket in this file
    #[arg(long, value_name = "FILE", help_heading = LINK)]
    pub(super) ticket_file: Option<PathBuf>,
    /// On one network, without a ticket: `recv` shows a code of three words, and `send` asks for it
    ///
    /// `send` takes the code from LANDFALL_CODE, else asks for it, else reads a line of standard input, and finds the machine
    /// that shows it by multicast DNS. Both prove to each other that they know the code, and the ticket follows.
    #[arg(long, help_heading = LINK, conflicts_with_all = ["ticket", "ticket_file", "write_ticket", "qr"])]
    pub(super) lan: bool,
    /// Listen on this address; port 0 is a random one, kept for the whole transfer
    #[arg(long, value_name = "ADDR:PORT", help_heading = LINK)]
    pub(super) listen: Option<SocketAddr>,
    /// Write the ticket to this file instead of standard output
    #[arg(long, value_name = "FILE", help_heading = LINK)]
    pub(super) write_ticket: Option<PathBuf>,
    /// Show the ticket as a QR code too, on standard error
    #[arg(long, help_heading = LINK)]
    pub(super) qr: bool,
    /// Give up after this long without any link, as `90s`, `10m`, `2h` or `forever`
    ///
    /// Without it: never on a terminal, else 10 minutes. With `--plan` and `--delete`: after this long without a word of the other
    /// side; without it never. A ticket that nobody takes expires after a day either way.
    #[arg(long, value_name = "DUR", value_parser = parse_patience, allow_negative_numbers = true, help_heading = LINK)]
    pub(super) patience: Option<Patience>,
    /// Let through so many bytes of content a second, as `2MB` or `500KiB/s`; without it a rerun has none
    #[arg(long, value_name = "RATE", value_parser = parse_rate, allow_negative_numbers = true, help_heading = LINK)]
    pub(super) limit: Option<NonZeroU64>,
    /// Say what would be sent, is there already, would be replaced, kept or left out, and write nothing on either side
    ///
    /// With --to or --from. What is there is compared through the cache, which proves nothing; whether there is room and
    /// permission to write shows only when it is written. With -v everything is named.
    #[arg(short = 'n', long, help_heading = SHOWN)]
    pub(super) plan: bool,
    /// Start a new transfer even if an open one has the same description; that one is closed
    #[arg(long, help_heading = LINK)]
    pub(super) new: bool,
    /// Do not ask before receiving, or before deleting
    #[arg(long, help_heading = LINK)]
    pub(super) yes: bool,
    /// Afterwards, delete at the target what is below the directories that are sent and not at the source
    ///
    /// With --to or --from. All of it is listed first; a terminal asks, elsewhere --yes is needed. What exists at the source
    /// stays at the target, also if it was excluded or left out.
    #[arg(long, help_heading = RECEIVER)]
    pub(super) delete: bool,
    #[command(flatten)]
    pub(super) remote: RemoteArguments,
    /// Write a further copy of the receipt to this file
    #[arg(long, value_name = "FILE", help_heading = SHOWN)]
    pub(super) receipt: Option<PathBuf>,
    #[command(flatten)]
    pub(super) shown: ShownArguments,
}

/// Options for `--to host:PATH` and `--from host:PATH`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct RemoteArguments {
    /// Reach another machine with this command instead of `ssh`, as `"ssh -p 2222"`
    #[arg(long, value_name = "COMMAND", help_heading = LINK)]
    pub(super) ssh: Option<String>,
    /// Where landfall is on the other machine, if it is not found there
    #[arg(long, value_name = "PATH", help_heading = LINK)]
    pub(super) remote_landfall: Option<String>,
    /// Send QUIC's datagrams through ssh, where UDP is blocked; slower
    #[arg(long, help_heading = LINK)]
    pub(super) relay_over_ssh: bool,
}

/// Options about what is shown.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct ShownArguments {
    /// Print one JSON object a line on standard output (docs/json.md)
    #[arg(long, help_heading = SHOWN)]
    pub(super) json: bool,
    /// No progress and no notices: only results and errors
    #[arg(short, long, help_heading = SHOWN)]
    pub(super) quiet: bool,
    /// Log what happens on standard error; twice for every chunk
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = SHOWN)]
    pub(super) verbose: u8,
}

/// Options that only a receiver has a use for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct ReceiverArguments {
    /// What to do where the target has something else under a name (default: refuse)
    #[arg(long, value_name = "WHAT", help_heading = RECEIVER)]
    pub(super) existing: Option<ExistingWord>,
    /// Refuse a transfer that is larger, as `500MB` or `2TiB`
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, allow_negative_numbers = true, help_heading = RECEIVER)]
    pub(super) max_size: Option<u64>,
    /// Leave this much of the disk free (default: the smaller of 5 % and 2 GiB)
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, allow_negative_numbers = true, help_heading = RECEIVER)]
    pub(super) reserve: Option<u64>,
    /// Lowest level of read-back that counts (default: evicted)
    #[arg(long, value_name = "LEVEL", help_heading = RECEIVER)]
    pub(super) accept_level: Option<LevelWord>,
}

/// `landfall resume`.
#[derive(Debug, Args)]
pub(super) struct ResumeArguments {
    /// One transfer; the first digits are enough if no other begins with them
    #[arg(value_name = "ID")]
    pub(super) id: Option<String>,
    /// Dial the other side of the transfer at this address too, which is tried from now on
    #[arg(long, value_name = "ADDR:PORT", requires = "id")]
    pub(super) peer: Option<SocketAddr>,
    /// Give a new ticket for what the transfer was about, whose other side has lost its key; what has come is adopted
    #[arg(long, requires = "id", conflicts_with = "peer")]
    pub(super) new_ticket: bool,
    #[command(flatten)]
    pub(super) shown: ShownArguments,
    /// Give up after this long without any link, as `90s`, `10m`, `2h` or `forever`
    #[arg(long, value_name = "DUR", value_parser = parse_patience, allow_negative_numbers = true)]
    pub(super) patience: Option<Patience>,
    /// Let through so many bytes of content a second, as `2MB` or `500KiB/s`
    #[arg(long, value_name = "RATE", value_parser = parse_rate, allow_negative_numbers = true)]
    pub(super) limit: Option<NonZeroU64>,
}

/// `landfall status`.
#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// One transfer, or the target directory of one
    #[arg(value_name = "ID|DIR")]
    pub(super) which: Option<OsString>,
    /// Print one JSON object for each transfer (docs/json.md)
    #[arg(long)]
    pub(super) json: bool,
}

/// `landfall verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// The receipt
    #[arg(value_name = "RECEIPT")]
    pub(super) receipt: PathBuf,
    /// Directory into which was received
    #[arg(default_value = ".", value_name = "DIR", conflicts_with = "b3sum")]
    pub(super) dir: PathBuf,
    /// Check the receipt alone, and print what `b3sum -c` reads, to be run in DIR
    #[arg(long)]
    pub(super) b3sum: bool,
    /// Print one JSON object a line (docs/json.md)
    #[arg(long, conflicts_with = "b3sum")]
    pub(super) json: bool,
    /// Name what differs and nothing else
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// `landfall forget`.
#[derive(Debug, Args)]
pub(super) struct ForgetArguments {
    /// The transfer; the first digits are enough if no other begins with them
    #[arg(value_name = "ID")]
    pub(super) id: String,
}

/// `landfall limit`.
#[derive(Debug, Args)]
pub(super) struct LimitArguments {
    /// The transfer; the first digits are enough if no other begins with them
    #[arg(value_name = "ID")]
    pub(super) id: String,
    /// Bytes of content a second, as `2MB` or `500KiB/s`, or `none`; until the process ends, or is told otherwise
    #[arg(value_name = "RATE", value_parser = parse_limit, allow_negative_numbers = true)]
    pub(super) rate: NewLimit,
}

/// `landfall id`.
#[derive(Debug, Args)]
pub(super) struct IdArguments {
    /// Print one JSON object (docs/json.md)
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    fn send(line: &str) -> SendArguments {
        match parse(line).unwrap().command.unwrap() {
            Command::Send(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn both_roles_take_the_options_of_both() {
        let options = "--listen 127.0.0.1:0 --write-ticket t --patience 10m --receipt r --json -q -vv --yes --new -n";
        for role in ["send a b", "recv d"] {
            assert!(parse(&format!("landfall {role} {options}")).is_ok(), "{role}");
        }
        let both = send(&format!("landfall send a b {options}")).both;
        assert_eq!(both.patience, Some(Patience::Limited(Duration::from_secs(600))));
        assert_eq!(
            (both.shown.verbose, both.shown.quiet, both.shown.json, both.new, both.yes),
            (2, true, true, true, true)
        );
    }

    #[test]
    fn a_receiver_has_its_own_options_and_a_directory_by_default() {
        let line = "landfall recv --existing replace --max-size 2TiB --reserve 0 --accept-level cache";
        let Command::Recv(arguments) = parse(line).unwrap().command.unwrap() else { panic!("not a recv") };
        assert_eq!(arguments.dir, PathBuf::from("."));
        let expected = ReceiverArguments {
            existing: Some(ExistingWord::Replace),
            max_size: Some(2 << 40),
            reserve: Some(0),
            accept_level: Some(LevelWord::Cache),
        };
        assert_eq!(arguments.receiver, expected);
        assert!(send("landfall send a --to b --existing keep").receiver.existing.is_some());
    }

    #[test]
    fn what_another_version_brings_is_unknown() {
        for line in [
            "recv --existing newer",
            "resume --peer 1.2.3.4:5",
            "resume --new-ticket",
            "resume 01 --new-ticket --peer 1.2.3.4:5",
        ] {
            assert!(parse(&format!("landfall {line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "send",
            "send a --ticket --ticket-file f",
            "send a --ticket --to b",
            "recv d --from s --ticket-file f",
            "verify r d --b3sum",
            "verify",
            "recv a b",
            "send a --ticket=x",
        ] {
            assert!(parse(&format!("landfall {line}")).is_err(), "{line}");
        }
    }
}
