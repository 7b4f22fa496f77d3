//! Parents and children. The child's process is a shell that answers for a child that listens in this process: so
//! that it can be killed, and the meeting behind it be real.

use std::io::{PipeWriter, Read};
use std::time::Instant;

use serde_json::json;
use tokio::time::sleep;

use super::super::child::{Pipes, Task, read_task};
use super::*;
use crate::error::Exit;
use crate::identity::{PeerKey, Secret};
use crate::net::CloseCode;
use crate::options::{ChildCommand, Reach};
use crate::state::transfer::Side;

/// A child that listens in this process, with the pipe that stands for its parent's life and the line it said.
async fn child(home: &Installation, owner: PeerKey, secret: Secret) -> (Run, PipeWriter, String) {
    let (input, alive) = std::io::pipe().unwrap();
    let (mut said, output) = std::io::pipe().unwrap();
    let common = home.common(Meeting::Child { owner, secret, reach: Reach::Machine });
    let settings = Settings { patience: Some(PATIENCE), ..Settings::default() };
    let wish = Wish {
        role: Role::Receiver,
        paths: vec![PathBuf::from("/the/target")],
        selection: Selection::default(),
        settings,
    };
    let (sender, events) = sync_channel(100);
    let pipes = Pipes { input: Box::new(input), output: Box::new(output) };
    let identity = Arc::clone(&home.identity);
    let opened = Meet::open_with(&common, wish, home.home(), identity, Events::new(sender), pipes).await.unwrap();
    let Opened::Meet(meet) = opened else { panic!("{opened:?}") };
    let mut line = String::new();
    said.read_to_string(&mut line).unwrap();
    (Run { meet: *meet, events }, alive, line)
}

fn shell(script: &str) -> ChildCommand {
    ChildCommand {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        options: json!({"existing": "replace"}),
        remote: None,
    }
}

fn parent_of(child: ChildCommand) -> Meeting {
    Meeting::Parent { child, other: "/the/target".into() }
}

/// A parent whose first child has left its secret in a file and is gone.
async fn secret_of_parent(home: &Installation) -> (Secret, serde_json::Value) {
    let file = home.dir.path().join("said");
    let script = format!("read line; echo \"$line\" > {0}.new; mv {0}.new {0}; exit 3", file.display());
    let mut parent = home.open(Role::Sender, parent_of(shell(&script))).await.unwrap();
    let read = async {
        while !file.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = read => {}
        other = parent.next() => panic!("{other:?}"),
    }
    let Task::Transfer(task) = read_task(&mut &std::fs::read(&file).unwrap()[..]).unwrap() else { panic!("a plan") };
    assert_eq!(task.owner, home.identity.public_key());
    assert_eq!(task.secret.transfer_id(), parent.meet.record().id);
    (task.secret, task.options)
}

#[tokio::test]
async fn a_parent_meets_its_child_and_again_after_each_kill() {
    let home = Installation::new();
    let (secret, options) = secret_of_parent(&home).await;
    assert_eq!(options, json!({"existing": "replace"}));
    let (mut child, alive, line) = child(&home, home.identity.public_key(), secret.clone()).await;
    let pids = home.dir.path().join("pids");
    let script = format!("echo $$ >> {}; read line; echo '{}'; cat > /dev/null", pids.display(), line.trim_end());
    let mut parent = home.open(Role::Sender, parent_of(shell(&script))).await.unwrap();
    assert_eq!((parent.meet.record().id, parent.meet.record().side), (secret.transfer_id(), Side::Parent));
    for round in 1..=3 {
        meet(&mut child, &mut parent).await;
        let started: Vec<i32> =
            std::fs::read_to_string(&pids).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(started.len(), round);
        let pid = rustix::process::Pid::from_raw(*started.last().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    let record = home.home().load(secret.transfer_id(), Role::Receiver).unwrap().unwrap();
    assert_eq!((record.side, record.peer), (Side::Child, Some(home.identity.public_key())));
    assert!(!record.is_resumable(), "only its parent continues it");

    // The parent's end is the child's.
    let begun = Instant::now();
    parent.meet.finish(CloseCode::Interrupted).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "a child that is not done is not waited for");
    drop(alive);
    let error = child.next().await.err().unwrap();
    assert_eq!(error.exit(), Exit::Again, "{error}");
}

#[tokio::test]
async fn a_child_admits_its_parent_only() {
    let (home, stranger) = (Installation::new(), Installation::new());
    let secret = Secret::from_bytes([9; 16]);
    let (mut child, _alive, line) = child(&home, home.identity.public_key(), secret.clone()).await;
    let ready = super::super::child::Ready::parse(line.trim_end()).unwrap();
    let (role, key, addresses) = (Role::Receiver, ready.key, ready.addresses);
    let ticket = Ticket { role, key, secret, addresses, expiry_seconds: u64::MAX };
    let mut dialler = stranger.dial(Role::Sender, &ticket).await;
    let error = hears(&mut dialler, &mut child).await;
    assert_eq!(error.exit(), Exit::Refused);
    assert!(error.to_string().contains("already taken by"), "{error}");
}

#[tokio::test]
async fn a_child_that_fails_for_good_is_not_started_again() {
    for (code, exit) in [(1, Exit::Failed), (2, Exit::Usage), (4, Exit::Refused)] {
        let home = Installation::new();
        let count = home.dir.path().join("count");
        let script = format!("echo >> {}; exit {code}", count.display());
        let mut parent = home.open(Role::Sender, parent_of(shell(&script))).await.unwrap();
        let error = parent.next().await.err().unwrap();
        assert!(matches!(error, Error::ChildFailed { .. }) && error.exit() == exit, "{error}");
        assert_eq!(std::fs::read(&count).unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_child_that_says_something_else_is_no_child() {
    let home = Installation::new();
    let mut parent = home.open(Role::Sender, parent_of(shell("echo hello; cat > /dev/null"))).await.unwrap();
    let error = parent.next().await.err().unwrap();
    assert!(matches!(error, Error::Misbehaved { .. }), "{error}");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named() {
    let home = Installation::new();
    let program = home.dir.path().join("program");
    std::fs::write(&program, "not a program").unwrap();
    let command = ChildCommand { program: program.clone(), ..shell("") };
    let mut parent = home.open(Role::Sender, parent_of(command)).await.unwrap();
    let error = parent.next().await.err().unwrap();
    assert_eq!(error.to_string(), format!("program `{}` could not be started", program.display()));
}
