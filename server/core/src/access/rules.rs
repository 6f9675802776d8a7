//! The table of who may do what with which models.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Deserialize;

use crate::access::identity::{GROUP, Identity};

/// The most rules of a table.
const MOST_RULES: usize = 10_000;
/// The most bytes of a model's name that is compared with patterns. A folder's name has no more.
const MOST_NAME: usize = 255;

/// A right to ask something of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// To classify with a model.
    Classify,
    /// To run a model by the Open Inference Protocol.
    Infer,
    /// To know that there is a model, and what it takes and gives. The rights to classify and to
    /// infer include it, because clients ask what a model takes first.
    Describe,
    /// To load and unload a model; with every model, also to change the log and to use shared
    /// memory.
    Control,
}

impl Right {
    /// The right as the table and errors name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Infer => "infer",
            Self::Describe => "describe",
            Self::Control => "control",
        }
    }
}

/// The rules of a table. They add up: what one of them grants, no other takes away.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Arc<Rule>>,
    /// The places of the rules that mean a client, by its entry: the work for a new client does not
    /// grow with the table.
    by_entry: HashMap<String, Vec<usize>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default, rename = "rule")]
    rules: Vec<Rule>,
}

/// A rule, as the table has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    who: Vec<String>,
    may: Vec<Right>,
    #[serde(default = "every_model")]
    models: Vec<String>,
}

fn every_model() -> Vec<String> {
    vec!["*".into()]
}

impl Rules {
    /// The rules that a table in TOML has. The error says what was expected, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Table { rules } = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            format!("line {line}: {}", expected(error.message()))
        })?;
        if rules.is_empty() {
            return Err("expected at least one [[rule]], got none".into());
        }
        if rules.len() > MOST_RULES {
            return Err(format!("expected at most {MOST_RULES} rules, got {}", rules.len()));
        }
        for (place, rule) in rules.iter().enumerate() {
            let sizes =
                [("who", rule.who.len()), ("may", rule.may.len()), ("models", rule.models.len())];
            if let Some((key, _)) = sizes.iter().find(|(_, size)| *size == 0) {
                return Err(format!("rule {}: {key}: expected at least one entry", place + 1));
            }
        }
        let mut by_entry = HashMap::<_, Vec<_>>::new();
        for (place, rule) in rules.iter().enumerate() {
            rule.who.iter().for_each(|who| by_entry.entry(who.clone()).or_default().push(place));
        }
        Ok(Self { rules: rules.into_iter().map(Arc::new).collect(), by_entry })
    }

    /// The number of rules.
    pub fn count(&self) -> usize {
        self.rules.len()
    }

    /// The grants to one client: to its name, to its groups as `group:NAME`, and to `*`.
    pub fn grants_to(&self, client: &Identity) -> Grants {
        let name = Some(client.name.clone()).filter(|name| !name.starts_with(GROUP));
        let groups = client.groups.iter().map(|group| format!("{GROUP}{group}"));
        let entries = name.into_iter().chain(groups).chain(["*".to_owned()]);
        let places = entries.filter_map(|entry| self.by_entry.get(&entry)).flatten();
        let places: BTreeSet<_> = places.copied().collect();
        Grants(places.into_iter().filter_map(|place| self.rules.get(place)).cloned().collect())
    }
}

/// The part of an error about TOML that says what was expected. What came instead may be secret,
/// where the file is another than was meant.
fn expected(message: &str) -> String {
    let expected = message.rsplit_once(", expected ").map(|(_, what)| format!("expected {what}"));
    expected.unwrap_or_else(|| message.into()).replace('\n', " ")
}

/// The rights of one client: the rules that mean it.
#[derive(Debug)]
pub struct Grants(Vec<Arc<Rule>>);

impl Grants {
    /// The rights of every client that is known, where there is no table.
    pub fn without_table() -> Self {
        let may = vec![Right::Classify, Right::Infer];
        Self(vec![Arc::new(Rule { who: vec!["*".into()], may, models: every_model() })])
    }

    /// Whether there is a right with the model of this name.
    pub fn has(&self, right: Right, model: &str) -> bool {
        // A client may name a model with a whole message, and a shard would compare it with pattern
        // after pattern meanwhile.
        match model.len() <= MOST_NAME {
            true => self.patterns(right).any(|pattern| matches(pattern, model)),
            false => self.has_for_all(right),
        }
    }

    /// Whether there is a right with every model, whatever its name.
    pub fn has_for_all(&self, right: Right) -> bool {
        self.patterns(right).any(|pattern| pattern == "*")
    }

    fn patterns(&self, right: Right) -> impl Iterator<Item = &String> {
        let includes = move |granted: &Right| {
            *granted == right
                || (right == Right::Describe && matches!(granted, Right::Classify | Right::Infer))
        };
        self.0
            .iter()
            .filter(move |rule| rule.may.iter().any(includes))
            .flat_map(|rule| &rule.models)
    }
}

/// Whether a name fits a pattern, in which `*` stands for any characters and `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if !pattern.contains(['*', '?']) {
        return pattern == name;
    }
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut seen) = (0, 0);
    // The place after the last `*`, and how many characters the `*` stands for by now end where.
    let mut last_star = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some('*') => {
                at += 1;
                last_star = Some((at, seen));
            }
            Some(&char) if char == '?' || char == name[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((after_star, until)) = last_star else { return false };
                (at, seen) = (after_star, until + 1);
                last_star = Some((after_star, until + 1));
            }
        }
    }
    pattern[at..].iter().all(|char| *char == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "animal"),
            ("animal", "animal"),
            ("digits-*", "digits-"),
            ("digits-*", "digits-2"),
            ("*-2", "digits-1-2"),
            ("d*t*-?", "digits-é"),
            ("a*b*c", "abbbcbc"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("animal", "animals"),
            ("animal", "Animal"),
            ("?", ""),
            ("digits-*", "digits"),
            ("a*b*c", "abbbcb"),
            ("[ab]", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)));
        assert!(!matches(&("a*".repeat(500) + "b"), &"a".repeat(10_000)));
    }

    #[test]
    fn a_name_that_is_no_models_is_not_compared_with_patterns() {
        let alice = grants(TABLE, "alice", &[]);
        let longest = format!("digits-{}", "x".repeat(MOST_NAME - "digits-".len()));
        assert!(alice.has(Right::Classify, &longest));
        assert!(!alice.has(Right::Classify, &(longest.clone() + "x")));
        assert!(grants(TABLE, "ops", &[]).has(Right::Control, &(longest + "x")));
    }

    fn grants(text: &str, name: &str, groups: &[&str]) -> Grants {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let identity = Identity { name: name.into(), groups };
        Rules::parse(text).expect("a table").grants_to(&identity)
    }

    const TABLE: &str = r#"
        [[rule]]
        who = ["alice", "group:vision"]
        may = ["classify"]
        models = ["animal", "digits-*"]

        [[rule]]
        who = ["*"]
        may = ["describe"]
        models = ["public"]

        [[rule]]
        who = ["ops"]
        may = ["control"]
    "#;

    #[test]
    fn rules_add_up() {
        let alice = grants(TABLE, "alice", &[]);
        assert!(alice.has(Right::Classify, "animal") && alice.has(Right::Describe, "digits-2"));
        assert!(!alice.has(Right::Infer, "animal") && !alice.has(Right::Classify, "other"));
        assert!(alice.has(Right::Describe, "public") && !alice.has(Right::Classify, "public"));
        let bob = grants(TABLE, "bob", &["vision"]);
        assert!(bob.has(Right::Classify, "animal"));
        assert!(!grants(TABLE, "group:vision", &[]).has(Right::Classify, "animal"));
        assert!(!grants(TABLE, "*", &["*"]).has(Right::Control, "animal"));
        let ops = grants(TABLE, "ops", &[]);
        assert!(ops.has(Right::Control, "animal") && ops.has_for_all(Right::Control));
        assert!(!ops.has(Right::Describe, "animal"), "control is no right to see");
        assert!(!alice.has_for_all(Right::Classify));
    }

    #[test]
    fn a_wrong_table_is_refused_with_its_place() {
        for (text, problem) in [
            ("", "expected at least one [[rule]], got none"),
            ("[[rule]]\nwho = []\nmay = ['infer']", "rule 1: who: expected at least one entry"),
            ("[[rule]]\nwho = ['a']\nmay = []", "rule 1: may: expected at least one entry"),
            (
                "[[rule]]\nwho = ['a']\nmay = ['infer']\nmodels = []",
                "rule 1: models: expected at least one entry",
            ),
        ] {
            assert_eq!(Rules::parse(text).expect_err(text), problem);
        }
        for (text, begin, word) in [
            (
                "[[rule]]\nwho = ['a']\nmay = ['fly']",
                "line 3: ",
                "expected one of `classify`, `infer`, `describe`, `control`",
            ),
            ("[[rule]]\nwho = ['a']", "line 1: ", "missing field `may`"),
            (
                "[[rule]]\nwho = ['a']\nmay = ['infer']\nmodel = 1",
                "line 4: ",
                "expected one of `who`, `may`, `models`",
            ),
            ("[[rules]]", "line 1: ", "expected `rule`"),
            ("\n\nwho =", "line 3: ", ""),
        ] {
            let error = Rules::parse(text).expect_err(text);
            assert!(error.starts_with(begin) && error.contains(word), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn an_error_quotes_nothing_of_the_file() {
        let rule = "[[rule]]\nwho = ['a']\nmay = ['infer']\n";
        for text in [
            "SECRET".into(),
            "alice: SECRET".into(),
            "alice = SECRET".into(),
            "SECRET = 1".into(),
            "SECRET = ".into(),
            "'SECRET".into(),
            "[SECRET]".into(),
            "[SECRET".into(),
            "[[SECRET]]".into(),
            "rule = 'SECRET'".into(),
            "rule = ['SECRET']".into(),
            "rule = { SECRET = 1 }".into(),
            "[[rule]]\nwho = 'SECRET'".into(),
            "[[rule]]\nwho = ['a']\nmay = 'SECRET'".into(),
            "[[rule]]\nwho = ['a']\nmay = ['SECRET']".into(),
            "[[rule]]\nwho = ['a']\nmay = ['SECRET, expected SECRET']".into(),
            "[[rule]]\nwho = { SECRET = 'SECRET' }".into(),
            format!("{rule}SECRET = 1\nSECRET = 2"),
            format!("{rule}models = 'SECRET'"),
            format!("{rule}models = ['a']\nmodels.SECRET = 1"),
            format!("{rule}models = ['\\SECRET', \"\\SECRET\"]"),
            format!("{rule}'SECRET, expected SECRET' = 1"),
        ] {
            let error = Rules::parse(&text).expect_err(&text);
            assert!(!error.contains("SECRET"), "{text}: {error}");
        }
    }

    #[test]
    fn a_client_of_many_groups_has_the_rights_of_each_once_and_in_order() {
        let rule = |who: &str, model: &str| {
            format!("[[rule]]\nwho = [{who}]\nmay = ['infer']\nmodels = ['{model}']\n")
        };
        let text = rule("'group:b', 'a', 'group:a'", "1") + &rule("'b'", "2") + &rule("'*'", "3");
        let groups: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
        let mut groups: Vec<_> = groups.iter().map(String::as_str).collect();
        groups.extend(["a", "b", "*"]);
        let grants = grants(&text, "a", &groups);
        let models: Vec<_> = grants.patterns(Right::Infer).map(String::as_str).collect();
        assert_eq!(models, ["1", "3"]);
    }
}
