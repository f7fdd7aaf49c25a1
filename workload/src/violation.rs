//! Broken promises, as checkers find them.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use serde::{Deserialize, Serialize};

use crate::invariant::{Invariant, watched_by};

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Who found it.
    pub checker: String,
    /// What was found.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match watched_by(&self.checker) {
            Some(Invariant { number, sentence, .. }) => {
                write!(f, "invariant {number}, {}: {sentence}\n  {}", self.checker, self.text)
            }
            // A machine's own assertion, for instance.
            None => write!(f, "{}: {}", self.checker, self.text),
        }
    }
}

/// Violations kept of one run; more add nothing.
const KEPT: usize = 20;

/// Where checkers put what they find.
#[derive(Clone, Debug, Default)]
pub struct Violations(Arc<Mutex<Found>>);

#[derive(Default)]
struct Found {
    all: Vec<Violation>,
    waker: Option<Waker>,
    listener: Option<Listener>,
}

type Listener = Box<dyn FnMut(&Violation) + Send>;

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Found").field(&self.all).finish()
    }
}

impl Violations {
    /// Adds one.
    pub fn add(&self, checker: &str, text: impl Into<String>) {
        let mut found = self.lock();
        if found.all.len() < KEPT {
            let violation = Violation { checker: checker.to_owned(), text: text.into() };
            if let Some(listener) = &mut found.listener {
                listener(&violation);
            }
            found.all.push(violation);
        }
        if let Some(waker) = found.waker.take() {
            waker.wake();
        }
    }

    /// Whether there is one.
    pub fn any(&self) -> bool {
        !self.lock().all.is_empty()
    }

    /// Tells `listener` of each one when it is found, which must not come back here.
    pub fn listen(&self, listener: impl FnMut(&Violation) + Send + 'static) {
        self.lock().listener = Some(Box::new(listener));
    }

    /// All of them; nobody listens any more.
    pub fn take(&self) -> Vec<Violation> {
        let mut found = self.lock();
        found.listener = None;
        std::mem::take(&mut found.all)
    }

    /// Carries on with `story` until a promise is broken, which is `None`: what comes after that tells nothing more.
    pub async fn none_during<F: Future>(&self, story: F) -> Option<F::Output> {
        let mut story = pin!(story);
        poll_fn(|context| {
            if let Poll::Ready(told) = story.as_mut().poll(context) {
                return Poll::Ready(Some(told));
            }
            let mut found = self.lock();
            if found.all.is_empty() {
                found.waker = Some(context.waker().clone());
                Poll::Pending
            } else {
                Poll::Ready(None)
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
