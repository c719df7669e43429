//! The routes of one host pattern, indexed by path if there are many.

use super::Rule;
use crate::config::PathPattern;
use std::{collections::HashMap, iter};

/// Indices of routes, in the order written.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    all: Vec<usize>,
    /// The only index for most hosts, which have a route or two: a linear scan is as fast.
    by_path: Option<Box<ByPath>>,
}

#[derive(Debug, Default)]
struct ByPath {
    exact: HashMap<Box<str>, Vec<usize>>,
    regex: Vec<usize>,
    prefix: HashMap<Box<str>, Vec<usize>>,
    /// Length of the longest prefix; the rest of a longer path costs no lookups.
    max_prefix_len: usize,
}

// === impl Candidates ===

impl Candidates {
    /// Appends a route.
    pub(super) fn push(&mut self, index: usize) {
        self.all.push(index);
    }

    /// Builds the index. Must be called after the last route has been added.
    pub(super) fn sort<'a>(&mut self, rule: impl Fn(usize) -> &'a Rule) {
        if self.all.len() <= LINEAR_SCAN_MAX {
            return;
        }
        let mut sorted = ByPath::default();
        for &index in &self.all {
            match rule(index).path() {
                PathPattern::Exact(path) => sorted.exact.entry(path.clone()).or_default(),
                PathPattern::Regex(_) => &mut sorted.regex,
                PathPattern::Prefix(prefix) => {
                    sorted.max_prefix_len = sorted.max_prefix_len.max(prefix.len());
                    sorted.prefix.entry(prefix.clone()).or_default()
                }
            }
            .push(index);
        }
        self.by_path = Some(Box::new(sorted));
    }

    /// Returns all routes.
    pub(super) fn all(&self) -> &[usize] {
        &self.all
    }

    /// Returns the routes that a path may match, in parts: routes in a later part match the path less specifically, or
    /// not at all.
    pub(super) fn of<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a [usize]> {
        let few = self.by_path.is_none().then_some(&self.all);
        let sorted = self.by_path.iter().flat_map(|sorted| sorted.of(path));
        few.into_iter().chain(sorted).map(Vec::as_slice)
    }
}

// === impl ByPath ===

impl ByPath {
    fn of<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Vec<usize>> {
        // A prefix ends where a segment does. Each one is looked up, up to the length of the longest configured prefix.
        let ends = path.rmatch_indices('/').map(|(at, _)| at);
        let prefixes = iter::once(path.len())
            .chain(ends)
            .filter(|end| *end <= self.max_prefix_len)
            .filter_map(|end| self.prefix.get(&path[..end]));
        let exact = self.exact.get(path);
        exact.into_iter().chain([&self.regex]).chain(prefixes)
    }
}

/// Up to this number of routes is scanned one by one.
const LINEAR_SCAN_MAX: usize = 8;
