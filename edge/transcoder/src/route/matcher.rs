//! A tree of templates: literal beats `*` beats `**`, whatever the order of registration.

use crate::percent::{self, Keep};
use crate::route::template::{Segment, Template};

/// Finds the rule of a request.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// Ordered by text.
    literals: Vec<(Box<str>, usize)>,
    star: Option<usize>,
    /// Rules that end here.
    here: Vec<Leaf>,
    /// Rules that end here with `**`.
    rest: Vec<Leaf>,
}

#[derive(Debug)]
struct Leaf {
    verb: Option<Box<str>>,
    /// The HTTP method, `*` for any.
    method: Box<str>,
    rule: usize,
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// The rule, and whether the verb is to be cut from the path.
    Rule {
        rule: usize,
        verb: bool,
    },
    /// The methods that the path has, sorted.
    OtherMethods(Vec<String>),
    Nothing,
}

/// The raw segments of a path, as ranges of it.
pub(crate) fn split(path: &str) -> Vec<(usize, usize)> {
    let mut segments = Vec::with_capacity(8);
    let mut from = 1;
    for (at, byte) in path.bytes().enumerate().skip(1) {
        if byte == b'/' {
            segments.push((from, at));
            from = at + 1;
        }
    }
    if path.len() > 1 {
        segments.push((from, path.len()));
    }
    segments
}

impl Matcher {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::default()] }
    }

    /// Adds a template.
    ///
    /// # Errors
    ///
    /// The rule that has the same method, shape and verb already.
    pub(crate) fn insert(&mut self, template: &Template, method: &str, rule: usize) -> Result<(), usize> {
        let mut node = 0;
        let mut rest = false;
        for segment in &template.segments {
            match segment {
                Segment::Literal(text) => {
                    let found = self.nodes[node].literals.binary_search_by(|(known, _)| (**known).cmp(text));
                    node = match found {
                        Ok(at) => self.nodes[node].literals[at].1,
                        Err(at) => {
                            let fresh = self.add();
                            self.nodes[node].literals.insert(at, (text.as_str().into(), fresh));
                            fresh
                        }
                    };
                }
                Segment::Star => {
                    node = if let Some(star) = self.nodes[node].star {
                        star
                    } else {
                        let fresh = self.add();
                        self.nodes[node].star = Some(fresh);
                        fresh
                    };
                }
                Segment::DoubleStar => rest = true,
            }
        }
        let leaves = if rest { &mut self.nodes[node].rest } else { &mut self.nodes[node].here };
        let same = leaves
            .iter()
            .find(|leaf| leaf.verb.as_deref() == template.verb.as_deref() && *leaf.method == *method);
        if let Some(leaf) = same {
            return Err(leaf.rule);
        }
        leaves.push(Leaf { verb: template.verb.as_deref().map(Into::into), method: method.into(), rule });
        Ok(())
    }

    fn add(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }

    /// Finds the rule for `method` and the segments of `path`.
    pub(crate) fn find(&self, method: &str, path: &str, segments: &[(usize, usize)]) -> Match {
        if segments.iter().any(|(from, to)| from == to) {
            return Match::Nothing;
        }
        let mut others = Vec::new();
        if let Some(&(from, to)) = segments.last()
            && let Some(colon) = path[from..to].rfind(':')
            && colon > 0
        {
            let mut cut = segments.to_vec();
            cut[segments.len() - 1].1 = from + colon;
            // As a literal, a verb may be encoded. The whole path was decoded before, so this cannot fail.
            let verb = percent::decode(&path[from + colon + 1..to], Keep::Nothing, false).ok();
            let mut search =
                Search { matcher: self, method, path, segments: &cut, verb: verb.as_deref(), others };
            if let Some(rule) = search.walk(0, 0) {
                return Match::Rule { rule, verb: true };
            }
            others = search.others;
        }
        let mut search = Search { matcher: self, method, path, segments, verb: None, others };
        if let Some(rule) = search.walk(0, 0) {
            return Match::Rule { rule, verb: false };
        }
        let mut others = search.others;
        if others.is_empty() {
            return Match::Nothing;
        }
        others.sort_unstable();
        others.dedup();
        Match::OtherMethods(others.into_iter().map(str::to_owned).collect())
    }
}

struct Search<'m, 'p> {
    matcher: &'m Matcher,
    method: &'p str,
    path: &'p str,
    segments: &'p [(usize, usize)],
    verb: Option<&'p str>,
    others: Vec<&'m str>,
}

impl<'m> Search<'m, '_> {
    fn walk(&mut self, node: usize, depth: usize) -> Option<usize> {
        let matcher: &'m Matcher = self.matcher;
        let node = &matcher.nodes[node];
        if depth == self.segments.len() {
            if let Some(rule) = self.leaf(&node.here) {
                return Some(rule);
            }
        } else {
            let (from, to) = self.segments[depth];
            let literal = percent::decode(&self.path[from..to], Keep::Nothing, false).ok()?;
            if let Ok(at) = node.literals.binary_search_by(|(known, _)| (**known).cmp(&*literal))
                && let Some(rule) = self.walk(node.literals[at].1, depth + 1)
            {
                return Some(rule);
            }
            if let Some(star) = node.star
                && let Some(rule) = self.walk(star, depth + 1)
            {
                return Some(rule);
            }
        }
        self.leaf(&node.rest)
    }

    fn leaf(&mut self, leaves: &'m [Leaf]) -> Option<usize> {
        let mut any = None;
        for leaf in leaves.iter().filter(|leaf| leaf.verb.as_deref() == self.verb) {
            if *leaf.method == *self.method {
                return Some(leaf.rule);
            }
            if *leaf.method == *"*" {
                any = Some(leaf.rule);
            } else {
                self.others.push(&leaf.method);
            }
        }
        any
    }
}
