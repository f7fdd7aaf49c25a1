//! A sequence of disk operations, each started when the one before it succeeded: the order is the crash safety.

use alloc::collections::VecDeque;

use crate::disk::{DiskError, DiskPath, DiskRequest, DiskResult};

/// The steps still to do.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Script {
    steps: VecDeque<(DiskRequest, bool)>,
    /// What the running step is about.
    running: Option<DiskPath>,
    /// Whether the running step may find nothing.
    tolerant: bool,
}

impl Script {
    /// Adds a step that must succeed.
    pub(super) fn step(&mut self, request: DiskRequest) {
        self.steps.push_back((request, false));
    }

    /// Adds a step whose file may be missing.
    pub(super) fn attempt(&mut self, request: DiskRequest) {
        self.steps.push_back((request, true));
    }

    /// Adds all steps of another script.
    pub(super) fn append(&mut self, mut other: Script) {
        self.steps.append(&mut other.steps);
    }

    /// The next step, or `None` at the end.
    pub(super) fn next(&mut self) -> Option<DiskRequest> {
        let (request, tolerant) = self.steps.pop_front()?;
        self.tolerant = tolerant;
        self.running = request.path().cloned();
        Some(request)
    }

    /// Whether a file is still to take its name.
    pub(super) fn will_rename(&self) -> bool {
        self.steps.iter().any(|(request, _)| matches!(request, DiskRequest::Rename { .. }))
    }

    /// Whether the running step is about this file.
    pub(super) fn is_about(&self, path: &DiskPath) -> bool {
        self.running.as_ref() == Some(path)
    }

    /// Judges the running step's result.
    pub(super) fn check(&self, result: &DiskResult) -> Result<(), DiskError> {
        match result {
            Err(DiskError::NotFound) if self.tolerant => Ok(()),
            Err(error) => Err(error.clone()),
            Ok(_) => Ok(()),
        }
    }
}
