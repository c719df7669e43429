//! The routes of one host pattern, indexed by path if there are many.

use super::Rule;
use crate::config::PathPattern;
use std::{collections::HashMap, iter};

/// Indices of routes, in the order written.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    all: Vec<usize>,
    /// `None` with at most [`LINEAR_SCAN_MAX`] routes, where a linear scan is as fast.
    by_path: Option<Box<ByPath>>,
}

#[derive(Debug, Default)]
struct ByPath {
    exact: HashMap<Box<str>, Vec<usize>>,
    regex: Vec<usize>,
    prefix: HashMap<Box<str>, Vec<usize>>,
    /// The length of the longest prefix. Longer parts of a path are not looked up.
    max_prefix_len: usize,
}

// === impl Candidates ===

impl Candidates {
    /// Appends a route.
    pub(super) fn push(&mut self, index: usize) {
        self.all.push(index);
    }

    /// Builds the index. Must be called after the last route has been added.
    pub(super) fn build_index<'a>(&mut self, rule: impl Fn(usize) -> &'a Rule) {
        if self.all.len() <= LINEAR_SCAN_MAX {
            return;
        }
        let mut by_path = ByPath::default();
        for &index in &self.all {
            match rule(index).path() {
                PathPattern::Exact(path) => by_path.exact.entry(path.clone()).or_default(),
                PathPattern::Regex(_) => &mut by_path.regex,
                PathPattern::Prefix(prefix) => {
                    by_path.max_prefix_len = by_path.max_prefix_len.max(prefix.len());
                    by_path.prefix.entry(prefix.clone()).or_default()
                }
            }
            .push(index);
        }
        self.by_path = Some(Box::new(by_path));
    }

    /// Returns all routes.
    pub(super) fn all(&self) -> &[usize] {
        &self.all
    }

    /// Returns the routes that a path may match, in parts: routes in a later part match the path less specifically, or
    /// not at all.
    pub(super) fn for_path<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a [usize]> {
        let unindexed = self.by_path.is_none().then_some(&self.all);
        let by_path = self
            .by_path
            .iter()
            .flat_map(|by_path| by_path.for_path(path));
        unindexed.into_iter().chain(by_path).map(Vec::as_slice)
    }
}

// === impl ByPath ===

impl ByPath {
    fn for_path<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Vec<usize>> {
        // A prefix ends where a segment ends, so each such part of the path is looked up, the longest first.
        let ends = path.rmatch_indices('/').map(|(at, _)| at);
        let prefixes = iter::once(path.len())
            .chain(ends)
            .filter(|end| *end <= self.max_prefix_len)
            .filter_map(|end| self.prefix.get(&path[..end]));
        let exact = self.exact.get(path);
        exact.into_iter().chain([&self.regex]).chain(prefixes)
    }
}

/// The maximum number of routes that are scanned one by one.
const LINEAR_SCAN_MAX: usize = 8;
