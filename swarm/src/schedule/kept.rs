//! Expressions as texts: out of `Env` into the labels that keep them for whoever makes the container anew.

use serde_json::{Map, Value};

use super::{
    BadExpression, Expression, Family,
    expression::{MOST, Wrong},
    request::field_mut,
};

/// The families in the order of [`Kept::texts`].
const FAMILIES: [Family; 3] = [Family::Constraint, Family::Affinity, Family::Reschedule];
/// What `reschedule:` can say. Nothing acts on it: restarting on another node is what services are for.
const POLICIES: [&str; 2] = ["off", "on-node-failure"];

impl Family {
    /// The label with a JSON list of such expressions.
    fn label(self) -> &'static str {
        match self {
            Self::Constraint => "com.docker.swarm.constraints",
            Self::Affinity => "com.docker.swarm.affinities",
            Self::Reschedule => "com.docker.swarm.reschedule-policies",
        }
    }

    /// What kind of expression an entry of `Env` is, if it is one at all, and the expression.
    fn of_entry(entry: &str) -> Option<(Self, &str)> {
        let (name, text) = entry.split_once(':')?;
        FAMILIES.into_iter().find(|family| family.name() == name).map(|family| (family, text))
    }
}

/// Whether an entry of `Env` is ours and not the container's.
pub(super) fn is_ours(entry: &str) -> bool {
    Family::of_entry(entry).is_some()
}

/// All expressions of a container.
#[derive(Debug, Default)]
pub(super) struct Kept {
    texts: [Vec<String>; 3],
    /// Whether some are not in the labels yet.
    fresh: bool,
}

impl Kept {
    /// Those in the labels.
    pub(super) fn of_labels(labels: Option<&Value>) -> Result<Self, BadExpression> {
        let mut kept = Self::default();
        for (family, texts) in FAMILIES.into_iter().zip(&mut kept.texts) {
            let text = labels.and_then(Value::as_object).and_then(|labels| labels.get(family.label())).and_then(Value::as_str);
            if let Some(text) = text {
                *texts =
                    serde_json::from_str(text).map_err(|_| BadExpression::new(family, text, Wrong::Label(family.label())))?;
            }
        }
        Ok(kept)
    }

    /// Adds an entry of `Env` if it is one of ours.
    pub(super) fn take(&mut self, entry: &str) {
        if let Some((family, text)) = Family::of_entry(entry) {
            self.texts[family as usize].push(text.to_owned());
            self.fresh = true;
        }
    }

    /// The expressions of a family, read.
    pub(super) fn parse(&self, family: Family) -> Result<Vec<Expression>, BadExpression> {
        let texts = &self.texts[family as usize];
        if let Some(one) = texts.get(MOST) {
            return Err(BadExpression::new(family, one, Wrong::Many));
        }
        texts.iter().map(|text| Expression::parse(family, text)).collect()
    }

    /// There is one policy at most, of those that classic Swarm knew.
    pub(super) fn check_policies(&self) -> Result<(), BadExpression> {
        let wrong = |text, wrong| Err(BadExpression::new(Family::Reschedule, text, wrong));
        match &self.texts[Family::Reschedule as usize][..] {
            [_, second, ..] => wrong(second, Wrong::Policies),
            [policy] if !POLICIES.contains(&policy.as_str()) => wrong(policy, Wrong::Policy),
            _ => Ok(()),
        }
    }

    /// Whether some of them came from `Env`.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Writes the labels.
    ///
    /// # Errors
    ///
    /// The body's `Labels` are no labels; nothing is written.
    pub(super) fn store(&self, body: &mut Map<String, Value>) -> Result<(), BadExpression> {
        let found = FAMILIES.into_iter().zip(&self.texts).filter(|(_, texts)| !texts.is_empty());
        let labels = field_mut(body, "Labels");
        if labels.is_null() {
            *labels = Value::Object(Map::new());
        }
        for (family, texts) in found {
            let Some(labels) = labels.as_object_mut() else {
                return Err(BadExpression::new(family, &texts[0], Wrong::NoLabels));
            };
            labels.insert(family.label().to_owned(), Value::String(Value::from(texts.clone()).to_string()));
        }
        Ok(())
    }
}
