//! From patterns as JSON to the tree of named fields. All problems are found in one pass.

use std::fmt;

use serde_json::{Map, Value};

use super::parse::test;
use super::position::{Clause, Condition, Position};
use super::value::Test;
use super::{
    CONDITIONS_MAX, DEPTH_MAX, EventFilter, PATTERN_BYTES_MAX, PATTERNS_MAX, Pattern, TESTS_MAX,
};

/// One problem of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternProblem {
    /// Which pattern, from 0.
    pub pattern: usize,
    /// Path to the field, such as `body.celsius`; empty for the pattern itself.
    pub path: String,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for PatternProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pattern, path, text } = self;
        write!(
            f,
            "pattern {}{}{path}: {text}",
            pattern + 1,
            if path.is_empty() { "" } else { ", " }
        )
    }
}

pub(super) fn compile(patterns: &[Value]) -> Result<EventFilter, Vec<PatternProblem>> {
    let mut compiler = Compiler::default();
    if patterns.is_empty() || patterns.len() > PATTERNS_MAX {
        let text = format!("a filter has 1 to {PATTERNS_MAX} patterns, not {}", patterns.len());
        compiler.problem("", text);
        return Err(compiler.problems);
    }
    let mut root = Position::default();
    let compiled = patterns.iter().enumerate();
    let compiled: Vec<Pattern> = compiled
        .map(|(n, pattern)| {
            compiler.pattern = n;
            compiler.whole(&mut root, pattern)
        })
        .collect();
    if compiler.problems.is_empty() {
        root.seal();
        Ok(EventFilter { root, patterns: compiled })
    } else {
        Err(compiler.problems)
    }
}

/// Which fields may stand where.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Root,
    Properties,
    Body,
}

#[derive(Default)]
struct Compiler {
    problems: Vec<PatternProblem>,
    pattern: usize,
    tests: usize,
}

impl Compiler {
    fn problem(&mut self, path: &str, text: impl Into<String>) {
        let (pattern, path) = (self.pattern, path.to_owned());
        self.problems.push(PatternProblem { pattern, path, text: text.into() });
    }

    fn whole(&mut self, root: &mut Position, pattern: &Value) -> Pattern {
        let mut clauses = Vec::new();
        let bytes = pattern.to_string().len();
        match pattern {
            _ if bytes > PATTERN_BYTES_MAX => {
                let text = format!("has {bytes} bytes, at most {PATTERN_BYTES_MAX} are allowed");
                self.problem("", text);
            }
            Value::Object(fields) => clauses = self.object(root, fields, "", Part::Root, 1),
            _ => self.problem("", "must be an object such as {\"body\": {\"door\": [\"open\"]}}"),
        }
        let body = root.names.get("body").copied();
        let names_body = body.is_some_and(|body| names(&clauses, body));
        Pattern { clauses, names_body }
    }

    fn object(
        &mut self,
        at: &mut Position,
        fields: &Map<String, Value>,
        path: &str,
        part: Part,
        depth: usize,
    ) -> Vec<Clause> {
        if fields.is_empty() {
            self.problem(path, "is an object without fields: it asks for nothing");
        }
        if depth > DEPTH_MAX {
            self.problem(path, format!("is more than {DEPTH_MAX} levels deep"));
            return Vec::new();
        }
        let mut clauses = Vec::new();
        for (name, value) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if name == "$or" {
                clauses.extend(self.any(at, value, &path, part, depth));
                continue;
            }
            if !self.may_stand(name, value, &path, part) {
                continue;
            }
            let index = at.child(name);
            let field = &mut at.children[index];
            let condition = match value {
                Value::Array(values) => Condition::Value(self.values(values, &path)),
                Value::Object(fields) => {
                    let part = if name == "properties" && part == Part::Root {
                        Part::Properties
                    } else {
                        Part::Body
                    };
                    Condition::Object(self.object(field, fields, &path, part, depth + 1))
                }
                _ => {
                    self.problem(&path, format!("must be an array: [{value}]"));
                    continue;
                }
            };
            if field.conditions.len() == CONDITIONS_MAX {
                let text = format!("has more than {CONDITIONS_MAX} conditions over all patterns");
                self.problem(&path, text);
                continue;
            }
            clauses.push(Clause::Field { index, bit: field.conditions.len() });
            field.conditions.push(condition);
        }
        clauses
    }

    fn any(
        &mut self,
        at: &mut Position,
        value: &Value,
        path: &str,
        part: Part,
        depth: usize,
    ) -> Option<Clause> {
        let objects: Option<Vec<_>> =
            value.as_array().and_then(|all| all.iter().map(Value::as_object).collect());
        match objects {
            Some(objects) if objects.len() >= 2 => {
                let each = objects.into_iter().enumerate().map(|(n, fields)| {
                    self.object(at, fields, &format!("{path}[{n}]"), part, depth + 1)
                });
                Some(Clause::Or(each.collect()))
            }
            _ => {
                self.problem(path, "must be an array of at least two objects");
                None
            }
        }
    }

    /// Whether a field of the event may be asked for so.
    fn may_stand(&mut self, name: &str, value: &Value, path: &str, part: Part) -> bool {
        let wrong = match (part, name) {
            (Part::Body, _) | (Part::Root, "body") => return true,
            (Part::Root, "topic" | "device" | "content_type") | (Part::Properties, _) => {
                value.is_object().then_some("is a text and has no fields: write an array")
            }
            (Part::Root, "properties") => {
                (!value.is_object()).then_some("must be an object with the names of properties")
            }
            (Part::Root, _) => {
                Some("is no field of an event: topic, device, content_type, properties, body")
            }
        };
        if let Some(text) = wrong {
            self.problem(path, text);
        }
        wrong.is_none()
    }

    fn values(&mut self, values: &[Value], path: &str) -> Vec<Test> {
        if values.is_empty() {
            self.problem(path, "is an array without values: nothing could match");
        }
        let mut tests = Vec::new();
        for value in values {
            match test(value) {
                Ok(test) => tests.push(test),
                Err(text) => self.problem(path, text),
            }
        }
        let weight: usize = tests.iter().map(Test::weight).sum();
        if self.tests <= TESTS_MAX && self.tests + weight > TESTS_MAX {
            self.problem(path, format!("makes more than {TESTS_MAX} values in one filter"));
        }
        self.tests += weight;
        tests
    }
}

/// Whether any clause asks for that field.
fn names(clauses: &[Clause], field: usize) -> bool {
    clauses.iter().any(|clause| match clause {
        Clause::Field { index, .. } => *index == field,
        Clause::Or(any) => any.iter().any(|clauses| names(clauses, field)),
    })
}

impl Position {
    fn child(&mut self, name: &str) -> usize {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        self.children.push(Self::default());
        self.names.insert(name.to_owned(), self.children.len() - 1);
        self.children.len() - 1
    }
}
