//! What must hold for any text in the place of an expression. The fuzz target calls the same.

use hcl_swarm::schedule::{Expression, Family};

/// Whether it is one. No panic; what is read says the same once more; `!=` is the opposite of `==`; an error is one line that
/// names the expression.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let expression = match Expression::parse(Family::Constraint, text) {
        Ok(expression) => expression,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            assert!(error.to_string().contains(&error.expression), "{error}");
            return false;
        }
    };
    let (key, value, soft) = (expression.key(), expression.value(), if expression.is_soft() { "~" } else { "" });
    let same = Expression::parse(Family::Constraint, &format!("{key}{}{soft}{value}", expression.operator()));
    assert_eq!(same.as_ref(), Ok(&expression));
    let [equal, unequal] = ["==", "!="].map(|sign| format!("{key}{sign}{soft}{value}"));
    let texts = [value, "", "node-0", "us-east", "nginx:latest", "Debian GNU/Linux 13 (trixie)"];
    // A value may itself hold `==`, and the first one counts.
    if let (Ok(equal), Ok(unequal)) = (Expression::parse(Family::Affinity, &equal), Expression::parse(Family::Affinity, &unequal))
    {
        for text in texts {
            assert_ne!(equal.holds([text]), unequal.holds([text]), "{expression} {text}");
        }
        assert_eq!(equal.holds(texts), texts.iter().any(|text| equal.holds([*text])));
    }
    true
}
