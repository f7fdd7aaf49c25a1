//! Histories of files with a contradiction planted in each, beside the same without it.

use cairn_core::error::{ClientError, MasterError};
use cairn_core::time::Time;

use super::super::Entry;
use super::super::history::{Call, Recorder};
use super::super::objects::{Judgement, judge};
use super::super::search::STEPS_MAX;
use crate::content::Content;
use crate::operation::{Operation, Outcome};

const ROOT: &str = "/shared";
const A: &str = "/shared/a";
const B: &str = "/shared/b";

/// A history written as a list of calls with their intervals.
#[derive(Default)]
struct Story(Vec<Entry<Call>>);

impl Story {
    fn add(mut self, during: (u64, u64), operation: Operation, outcome: Outcome) -> Story {
        let returned = (!matches!(outcome, Outcome::Unknown(_))).then_some(during.1);
        let call = Call { who: format!("client{}", during.0 % 3), operation, outcome, asked: Time(during.0) };
        self.0.push(Entry { call, invoked: during.0, returned });
        self
    }

    fn put(self, during: (u64, u64), path: &str, number: u32) -> Story {
        let content = content(number);
        let stored = Outcome::Stored { length: u64::from(content.length), crc: content.crc() };
        self.add(during, put(path, number, true), stored)
    }

    fn lost_put(self, at: u64, path: &str, number: u32) -> Story {
        self.add((at, 0), put(path, number, true), lost())
    }

    fn create(self, during: (u64, u64), path: &str, number: u32) -> Story {
        let content = content(number);
        let stored = Outcome::Stored { length: u64::from(content.length), crc: content.crc() };
        self.add(during, put(path, number, false), stored)
    }

    fn get(self, during: (u64, u64), path: &str, number: u32) -> Story {
        let content = content(number);
        let length = u64::from(content.length);
        let read = Outcome::Read { length, content: Some(content), crc: content.crc() };
        self.add(during, Operation::Get { path: path.into() }, read)
    }

    fn missing(self, during: (u64, u64), path: &str) -> Story {
        self.add(during, Operation::Get { path: path.into() }, not_found())
    }

    fn stat(self, during: (u64, u64), path: &str, number: u32) -> Story {
        let content = content(number);
        let length = u64::from(content.length);
        let attributes = Outcome::Attributes { directory: false, length, crc: content.crc() };
        self.add(during, Operation::Stat { path: path.into() }, attributes)
    }

    fn delete(self, during: (u64, u64), path: &str) -> Story {
        self.add(during, delete(path), Outcome::Done)
    }

    fn rename(self, during: (u64, u64), from: &str, to: &str) -> Story {
        let rename = Operation::Rename { from: from.into(), to: to.into(), replace: false };
        self.add(during, rename, Outcome::Done)
    }

    fn list(self, during: (u64, u64), names: &[(&str, u32)]) -> Story {
        let entry =
            |(name, number): &(&str, u32)| ((*name).to_owned(), false, u64::from(content(*number).length));
        let names = Outcome::Names(names.iter().map(entry).collect());
        self.add(during, Operation::List { path: ROOT.into() }, names)
    }

    fn judged(&self) -> Judgement {
        judge(&self.0, ROOT, STEPS_MAX)
    }

    fn fits(self) -> Story {
        let judgement = self.judged();
        assert_eq!(judgement.contradictions, Vec::<String>::new());
        assert_eq!(judgement.undecided, 0);
        self
    }

    /// No order explains it, and the answer that shows this is the one that `what` is said of.
    fn contradicts(self, what: &str) {
        let contradictions = self.judged().contradictions;
        let [text] = contradictions.as_slice() else { panic!("{contradictions:?} instead of one") };
        let headline = text.split("fits no order").next().unwrap_or_default();
        assert!(headline.contains(what), "{text}\ndoes not name {what}");
    }
}

fn content(number: u32) -> Content {
    Content { number, length: 100 + number }
}

fn put(path: &str, number: u32, replace: bool) -> Operation {
    Operation::Put {
        path: path.into(),
        content: content(number),
        replace,
        piece: 10,
        storage: Default::default(),
    }
}

fn delete(path: &str) -> Operation {
    Operation::Delete { path: path.into(), recursive: false }
}

fn lost() -> Outcome {
    Outcome::Unknown(ClientError::Timeout("the master".into()))
}

fn not_found() -> Outcome {
    Outcome::Refused(MasterError::NotFound("it".into()))
}

fn exists() -> Outcome {
    Outcome::Refused(MasterError::AlreadyExists("it".into()))
}

#[test]
fn a_stale_read() {
    let story = || Story::default().put((1, 2), A, 1).put((3, 6), A, 2);
    story().get((4, 5), A, 1).get((4, 8), A, 1).get((7, 9), A, 2).fits();
    story().get((7, 8), A, 1).contradicts("Get /shared/a");
}

#[test]
fn a_lost_update() {
    let story = || Story::default().put((1, 2), A, 1).put((3, 4), A, 2);
    story().get((5, 6), A, 2).fits();
    story().missing((5, 6), A).contradicts("Get /shared/a");
}

#[test]
fn a_resurrected_deletion() {
    let story = || Story::default().put((1, 2), A, 1).delete((3, 4), A);
    story().missing((5, 6), A).fits();
    story().get((5, 6), A, 1).contradicts("Get /shared/a");
}

#[test]
fn a_read_of_what_was_not_committed() {
    // The put was given up before its commit, or refused; somebody saw it all the same.
    let failed = Outcome::Failed(ClientError::WriteRefused("no quorum".into()));
    Story::default().add((1, 2), put(A, 1, true), failed).get((3, 4), A, 1).contradicts("Get /shared/a");
    let story = || Story::default().put((1, 2), A, 1).add((3, 4), put(A, 2, false), exists());
    story().get((5, 6), A, 1).fits();
    story().get((5, 6), A, 2).contradicts("Get /shared/a");
}

#[test]
fn attributes_that_go_back_in_time() {
    let story = || Story::default().put((1, 2), A, 1).put((3, 20), A, 2);
    story().stat((4, 5), A, 1).stat((6, 7), A, 2).stat((8, 9), A, 2).fits();
    story().stat((4, 5), A, 2).stat((6, 7), A, 1).contradicts("Stat /shared/a");
}

#[test]
fn two_who_both_created() {
    let story = || Story::default().create((1, 4), A, 1);
    story().add((2, 3), put(A, 2, false), exists()).fits();
    story().create((2, 3), A, 2).contradicts("Put /shared/a");
    story().delete((2, 3), A).create((2, 5), A, 2).fits();
}

#[test]
fn a_lost_change_happens_once_at_any_time_or_never() {
    let story = || Story::default().put((1, 2), A, 1).lost_put(3, A, 2);
    story().get((4, 5), A, 1).get((60, 70), A, 2).get((80, 90), A, 2).fits();
    story().get((4, 5), A, 1).get((60, 70), A, 1).fits();
    story().get((4, 5), A, 2).get((6, 7), A, 1).contradicts("Get /shared/a");
    story().get((4, 5), A, 2).delete((6, 7), A).get((8, 9), A, 2).contradicts("Get /shared/a");
    // It can't have been done before it was asked.
    Story::default().get((1, 2), A, 2).lost_put(3, A, 2).contradicts("Get /shared/a");
}

#[test]
fn a_rename_that_copies() {
    let story = || Story::default().put((1, 2), A, 1).rename((3, 4), A, B);
    story().missing((5, 6), A).get((7, 8), B, 1).fits();
    story().get((5, 6), B, 1).get((7, 8), A, 1).contradicts("Get /shared/a");
    story().missing((5, 6), B).contradicts("Get /shared/b");
}

#[test]
fn a_listing_of_two_moments() {
    // The names are independent: each by itself was there or not at some moment of the listing, but not both at one.
    let story =
        || Story::default().put((1, 2), A, 1).put((3, 4), B, 2).delete((5, 6), A).put((8, 9), "/shared/c", 3);
    story().list((4, 7), &[("a", 1), ("b", 2)]).list((4, 10), &[("b", 2), ("c", 3)]).fits();
    story().list((4, 10), &[("a", 1), ("b", 2), ("c", 3)]).contradicts("List /shared");
    story().list((7, 8), &[("a", 1), ("b", 2)]).contradicts("List /shared");
}

#[test]
fn what_is_told_begins_with_the_contradiction_and_names_what_was_possible() {
    let mut story = Story::default();
    for i in 0..40 {
        story = story.put((10 * i + 1, 10 * i + 2), A, i as u32);
    }
    let story = story.get((401, 402), A, 7).get((403, 404), A, 39);
    let text = story.judged().contradictions.remove(0);
    assert!(
        text.starts_with("/shared/a: 0.000000s client2 Get /shared/a → read #7(107) [401–402]"),
        "{text}"
    );
    assert!(text.contains("Until then there could have been {/shared/a=#39(139)}."), "{text}");
    assert!(text.contains("40 calls before its answer, the last 14 of them:"), "{text}");
    assert!(!text.contains("403"), "{text}");
}

#[test]
fn a_recorder_keeps_what_was_never_answered_as_unknown() {
    let recorder = Recorder::default();
    let first = recorder.ask("client0", &put(A, 1, true), Time(1));
    let _never_answered = recorder.ask("client1", &delete(A), Time(2));
    let stored = Outcome::Stored { length: u64::from(content(1).length), crc: content(1).crc() };
    recorder.answer(first, &stored);
    let history = recorder.history();
    assert_eq!((history[0].invoked, history[0].returned), (1, Some(3)));
    assert_eq!((history[1].invoked, history[1].returned), (2, None));
    let judgement = judge(&history, ROOT, STEPS_MAX);
    assert_eq!((judgement.objects, judgement.calls), (1, 2));
    assert!(judgement.contradictions.is_empty());
}
