//! The index from a topic to the filters that match it: a tree by level.
//!
//! # Invariants
//! - Depth is at most [`TOPIC_LEVELS_MAX`](super::TOPIC_LEVELS_MAX), by the filter's own bound.
//! - A node without values and children does not exist: removing every filter frees everything.
//! - A look-up visits a node at most once.

use super::{Topic, TopicFilter};

/// Values by topic filter, found by topic name.
#[derive(Clone, Debug)]
pub struct FilterTrie<V> {
    root: Node<V>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Node<V> {
    /// Children by literal level, sorted. Most nodes have one: a map would reserve room for many.
    literal: Vec<(Box<str>, Box<Self>)>,
    /// The child for `+`.
    plus: Option<Box<Self>>,
    /// Values whose filter ends here, sorted.
    here: Vec<V>,
    /// Values whose filter ends with `#` below here, sorted; they match here too [MQTT-4.7.1-2].
    below: Vec<V>,
}

impl<V> Default for FilterTrie<V> {
    fn default() -> Self {
        Self { root: Node::default(), len: 0 }
    }
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self { literal: Vec::new(), plus: None, here: Vec::new(), below: Vec::new() }
    }
}

impl<V> Node<V> {
    fn is_empty(&self) -> bool {
        self.here.is_empty()
            && self.below.is_empty()
            && self.plus.is_none()
            && self.literal.is_empty()
    }

    fn find(&self, level: &str) -> Result<usize, usize> {
        self.literal.binary_search_by(|(name, _)| (**name).cmp(level))
    }
}

impl<V: Ord> FilterTrie<V> {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of (filter, value) pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `value` under `filter`. False if that pair was there already.
    pub fn insert(&mut self, filter: &TopicFilter, value: V) -> bool {
        let mut node = &mut self.root;
        let mut below = false;
        for level in filter.as_str().split('/') {
            match level {
                "#" => below = true,
                "+" => node = node.plus.get_or_insert_default(),
                _ => {
                    let at = node.find(level).unwrap_or_else(|at| {
                        node.literal.insert(at, (Box::from(level), Box::default()));
                        at
                    });
                    node = &mut node.literal[at].1;
                }
            }
        }
        let values = if below { &mut node.below } else { &mut node.here };
        match values.binary_search(&value) {
            Ok(_) => false,
            Err(at) => {
                values.insert(at, value);
                self.len += 1;
                true
            }
        }
    }

    /// Removes `value` from under `filter`. False if that pair was not there.
    pub fn remove(&mut self, filter: &TopicFilter, value: &V) -> bool {
        let removed = remove_below(&mut self.root, Some(filter.as_str()), value);
        self.len -= usize::from(removed);
        removed
    }

    /// Calls `found` with each value whose filter matches `topic`, once per matching filter.
    pub fn for_each_match<'t>(&'t self, topic: &Topic, mut found: impl FnMut(&'t V)) {
        visit(&self.root, Some(topic.as_str()), true, &mut found);
    }

    /// The values whose filters match `topic`, sorted, each once.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> Vec<&V> {
        let mut values = Vec::new();
        self.for_each_match(topic, |value| values.push(value));
        values.sort_unstable();
        values.dedup();
        values
    }
}

/// First level and what follows it; `None` follows the last level.
fn split(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(level, rest)| (level, Some(rest)))
}

fn remove_below<V: Ord>(node: &mut Node<V>, path: Option<&str>, value: &V) -> bool {
    let Some(path) = path else { return remove_value(&mut node.here, value) };
    match split(path) {
        ("#", _) => remove_value(&mut node.below, value),
        ("+", rest) => {
            let Some(child) = &mut node.plus else { return false };
            let removed = remove_below(child, rest, value);
            if child.is_empty() {
                node.plus = None;
            }
            removed
        }
        (level, rest) => {
            let Ok(at) = node.find(level) else { return false };
            let child = &mut node.literal[at].1;
            let removed = remove_below(child, rest, value);
            if child.is_empty() {
                node.literal.remove(at);
            }
            removed
        }
    }
}

fn remove_value<V: Ord>(values: &mut Vec<V>, value: &V) -> bool {
    let Ok(at) = values.binary_search(value) else { return false };
    values.remove(at);
    if values.is_empty() {
        values.shrink_to_fit();
    }
    true
}

fn visit<'t, V>(node: &'t Node<V>, path: Option<&str>, first: bool, found: &mut impl FnMut(&'t V)) {
    // [MQTT-4.7.2-1]: no wildcard at the first level meets `$`.
    let hidden = first && path.is_some_and(|path| path.starts_with('$'));
    if !hidden {
        node.below.iter().for_each(&mut *found);
    }
    let Some(path) = path else { return node.here.iter().for_each(found) };
    let (level, rest) = split(path);
    if let Some(child) = &node.plus
        && !hidden
    {
        visit(child, rest, false, found);
    }
    if let Ok(at) = node.find(level) {
        visit(&node.literal[at].1, rest, false, found);
    }
}
