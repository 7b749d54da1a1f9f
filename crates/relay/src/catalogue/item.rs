//! The elements of an upstream's list, checked against the schema of the official clients.
//!
//! Those clients refuse a whole merged list because of one element that their schema does not
//! allow. A mistake must therefore affect only its element: a harmless one is corrected, any other
//! leaves the element out. Both are reported by name.

use std::collections::HashSet;

use serde_json::Value;
use serde_json::value::RawValue;

use super::List;
use crate::envelope::{RawObject, raw};

/// An element of a list: the key that identifies it, and its raw JSON.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key: String,
    pub(crate) raw: Box<RawValue>,
    /// True if the tool declares `readOnlyHint`.
    pub(crate) reads_only: bool,
    /// The schema of the tool's parameters, if the tool wants some of them as headers.
    pub(crate) mirrored: Option<Value>,
}

/// A mistake in an element of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFlaw {
    /// The method of the list, such as `tools/list`.
    pub list: &'static str,
    /// The element's name or URI. `None` if it has none that can be read.
    pub key: Option<String>,
    /// The mistake, such as "`inputSchema` is missing".
    pub mistake: &'static str,
    /// True if the element was left out, false if the mistake was corrected.
    pub is_left_out: bool,
}

/// The elements of a list, and the mistakes found in it.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) items: Vec<Item>,
    pub(crate) flaws: Vec<ListFlaw>,
    /// The keys of the elements, so that each is listed once.
    keys: HashSet<String>,
}

/// Maximum number of mistakes that are kept for one list. They suffice to tell its author.
const MAX_FLAWS: usize = 20;
/// Maximum length of a name or URI in a flaw, in characters.
const MAX_SHOWN: usize = 128;

impl Listed {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Item> {
        self.items.iter()
    }

    /// Adds an element, or the reason why it is left out.
    pub(crate) fn add(&mut self, list: List, raw: &RawValue) {
        match Item::read(list, raw) {
            // A call would reach the first of the two.
            Ok((item, _)) if !self.keys.insert(item.key.clone()) => {
                self.report(list, Some(item.key), "listed twice", true);
            }
            Ok((item, mended)) => {
                for mistake in mended {
                    self.report(list, Some(item.key.clone()), mistake, false);
                }
                self.items.push(item);
            }
            Err((key, mistake)) => self.report(list, key, mistake, true),
        }
    }

    fn report(&mut self, list: List, key: Option<String>, mistake: &'static str, is_left_out: bool) {
        if self.flaws.len() < MAX_FLAWS {
            let key =
                key.map(|key| key.chars().filter(|letter| !letter.is_control()).take(MAX_SHOWN).collect());
            self.flaws.push(ListFlaw { list: list.method(), key, mistake, is_left_out });
        }
    }
}

/// The key of an element that is left out, and the reason.
type LeftOut = (Option<String>, &'static str);

impl Item {
    /// Parses an element and corrects mistakes where that does not change its meaning.
    fn read(list: List, text: &RawValue) -> Result<(Self, Vec<&'static str>), LeftOut> {
        let mut object =
            RawObject::parse(text.get()).map_err(|_| (None, "not an object, or a member is repeated"))?;
        let key = object.str(list.key()).filter(|key| !key.is_empty());
        let Some(key) = key else { return Err((None, list.no_key())) };
        let mut mended = Vec::new();
        let checked = match list {
            List::Tools => mend_tool(&mut object, &mut mended),
            List::Prompts => mend_prompt(&object),
            List::Resources | List::Templates => {
                mend_resource(&mut object, &key, &mut mended);
                Ok(())
            }
        };
        if let Err(mistake) = checked {
            return Err((Some(key), mistake));
        }
        mend_optional(&mut object, &mut mended);
        let hint =
            object.object("annotations").and_then(|hints| Some(hints.get("readOnlyHint")?.get() == "true"));
        let schema = object.get("inputSchema").filter(|schema| schema.get().contains("x-mcp-header"));
        let mirrored = schema.and_then(|schema| serde_json::from_str(schema.get()).ok());
        // An element without mistakes keeps its bytes.
        let raw = if mended.is_empty() { text.to_owned() } else { object.to_raw() };
        Ok((Self { key, raw, reads_only: hint.unwrap_or(false), mirrored }, mended))
    }

    /// Returns the element under another name. Everything else stays as it was.
    pub(crate) fn named(&self, name: &str) -> Box<RawValue> {
        let mut object = RawObject::parse(self.raw.get()).unwrap_or_default();
        object.set("name", raw(name));
        object.to_raw()
    }
}

/// Checks that the schema of a tool's parameters, and of its results if there is one, describes an
/// object.
fn mend_tool(object: &mut RawObject, mended: &mut Vec<&'static str>) -> Result<(), &'static str> {
    match value(object, "inputSchema") {
        None | Some(Value::Null) => {
            object.set("inputSchema", raw(&serde_json::json!({"type": "object"})));
            mended.push("`inputSchema` is missing");
        }
        Some(schema) => match is_object_schema(&schema) {
            Schema::Object => {}
            Schema::WithoutType => {
                let mut schema = object.object("inputSchema").unwrap_or_default();
                schema.set("type", raw("object"));
                object.set("inputSchema", schema.to_raw());
                mended.push("`inputSchema` has no `type`");
            }
            Schema::Other => return Err("`inputSchema` is not the schema of an object"),
        },
    }
    if let Some(schema) = value(object, "outputSchema").filter(|schema| !schema.is_null())
        && is_object_schema(&schema) != Schema::Object
    {
        // Without this schema, clients accept the results unchecked.
        object.remove("outputSchema");
        mended.push("`outputSchema` is not the schema of an object");
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Schema {
    Object,
    WithoutType,
    Other,
}

fn is_object_schema(schema: &Value) -> Schema {
    let Some(members) = schema.as_object() else { return Schema::Other };
    let is_map = |name: &str| {
        members.get(name).is_none_or(|map| map.as_object().is_some_and(|map| map.values().all(is_schema)))
    };
    let required = members
        .get("required")
        .is_none_or(|required| required.as_array().is_some_and(|names| names.iter().all(Value::is_string)));
    match members.get("type") {
        _ if !is_map("properties") || !required => Schema::Other,
        Some(Value::String(kind)) if kind == "object" => Schema::Object,
        None => Schema::WithoutType,
        Some(_) => Schema::Other,
    }
}

/// Returns whether a value is a schema: an object, or `true` or `false` (JSON Schema 2020-12,
/// section 4.3).
fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

/// Checks that the arguments of a prompt have names.
fn mend_prompt(object: &RawObject) -> Result<(), &'static str> {
    match value(object, "arguments") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(arguments)) if arguments.iter().all(|argument| argument["name"].is_string()) => {
            Ok(())
        }
        Some(_) => Err("`arguments` is not a list of arguments with names"),
    }
}

/// Adds the missing name of a resource, which is required besides its URI.
fn mend_resource(object: &mut RawObject, uri: &str, mended: &mut Vec<&'static str>) {
    if object.str("name").is_none() {
        object.set("name", raw(uri));
        mended.push("`name` is missing");
    }
}

/// Removes members of the wrong type, such as `null`, whose types every client checks. To a client,
/// an absent member means the same.
fn mend_optional(object: &mut RawObject, mended: &mut Vec<&'static str>) {
    type Check = fn(&Value) -> bool;
    let optional: [(&str, Check, &'static str); 9] = [
        ("title", Value::is_string, "`title` is not a string"),
        ("description", Value::is_string, "`description` is not a string"),
        ("mimeType", Value::is_string, "`mimeType` is not a string"),
        ("size", Value::is_number, "`size` is not a number"),
        ("annotations", Value::is_object, "`annotations` is not an object"),
        ("execution", Value::is_object, "`execution` is not an object"),
        ("outputSchema", Value::is_object, "`outputSchema` is not an object"),
        ("arguments", Value::is_array, "`arguments` is not a list"),
        ("icons", Value::is_array, "`icons` is not a list"),
    ];
    for (name, is_right, mistake) in optional {
        if value(object, name).is_some_and(|value| !is_right(&value)) {
            object.remove(name);
            mended.push(mistake);
        }
    }
    if value(object, "_meta").is_some_and(|value| !value.is_object()) {
        object.remove("_meta");
        mended.push("`_meta` is not an object");
    }
}

fn value(object: &RawObject, name: &str) -> Option<Value> {
    serde_json::from_str(object.get(name)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(list: List, elements: &[Value]) -> Listed {
        let mut listed = Listed::default();
        for element in elements {
            listed.add(list, &raw(element));
        }
        listed
    }

    /// Returns the element as it is listed, and whether a mistake was reported.
    fn read(list: List, element: &Value) -> (Option<Value>, bool) {
        let listed = listed(list, std::slice::from_ref(element));
        let item = listed.items.first().map(|item| serde_json::from_str(item.raw.get()).expect("JSON"));
        (item, !listed.flaws.is_empty())
    }

    #[test]
    fn an_element_without_mistakes_stays_byte_for_byte() {
        let text = r#"{ "inputSchema" : {"type":"object","properties":{"a":true},"required":["a"]}, "name":"t","x":1.0 }"#;
        let text: &RawValue = serde_json::from_str(text).expect("JSON");
        let mut listed = Listed::default();
        listed.add(List::Tools, text);
        assert_eq!(listed.items[0].raw.get(), text.get());
        assert_eq!(listed.flaws, []);
    }

    #[test]
    fn harmless_mistakes_of_a_tool_are_mended() {
        let schema = json!({"type": "object"});
        let mended = json!({"name": "t", "inputSchema": schema});
        for wrong in [
            json!({"name": "t"}),
            json!({"name": "t", "inputSchema": null}),
            json!({"name": "t", "inputSchema": {}}),
            json!({"name": "t", "inputSchema": schema, "description": null}),
            json!({"name": "t", "inputSchema": schema, "title": 7, "annotations": null, "_meta": []}),
            json!({"name": "t", "inputSchema": schema, "outputSchema": {"type": "string"}}),
            json!({"name": "t", "inputSchema": schema, "outputSchema": null, "icons": {}}),
        ] {
            assert_eq!(read(List::Tools, &wrong), (Some(mended.clone()), true), "{wrong}");
        }
    }

    #[test]
    fn a_mistake_that_cannot_be_mended_costs_its_element_alone() {
        let good = json!({"name": "good", "inputSchema": {"type": "object"}});
        for (wrong, key) in [
            (json!(7), None),
            (json!({"name": 7}), None),
            (json!({"name": ""}), None),
            (json!({"name": "t", "inputSchema": "none"}), Some("t")),
            (json!({"name": "t", "inputSchema": {"type": "string"}}), Some("t")),
            (json!({"name": "t", "inputSchema": {"type": "object", "properties": []}}), Some("t")),
            (json!({"name": "t", "inputSchema": {"type": "object", "required": "a"}}), Some("t")),
        ] {
            let listed = listed(List::Tools, &[wrong.clone(), good.clone()]);
            let names: Vec<_> = listed.items.iter().map(|item| item.key.as_str()).collect();
            assert_eq!(names, ["good"], "{wrong}");
            assert_eq!(listed.flaws.len(), 1, "{wrong}");
            assert_eq!(listed.flaws[0].key.as_deref(), key, "{wrong}");
            assert!(listed.flaws[0].is_left_out);
        }
    }

    #[test]
    fn prompts_resources_and_templates_are_checked_as_well() {
        assert!(read(List::Prompts, &json!({"name": "p", "arguments": [{"description": "d"}]})).0.is_none());
        let prompt = json!({"name": "p", "arguments": null, "description": 1});
        assert_eq!(read(List::Prompts, &prompt), (Some(json!({"name": "p"})), true));
        let named = json!({"uri": "a://b", "name": "a://b"});
        assert_eq!(read(List::Resources, &json!({"uri": "a://b", "size": "7"})), (Some(named), true));
        let template = json!({"uriTemplate": "a://{b}", "name": "b"});
        assert_eq!(read(List::Templates, &template), (Some(template.clone()), false));
        assert!(read(List::Templates, &json!({"uri": "a://b"})).0.is_none());
    }

    #[test]
    fn only_so_many_mistakes_are_kept_and_names_are_cut() {
        let wrong = vec![json!({"name": format!("\u{1b}[2J{}", "x".repeat(500)), "inputSchema": 1}); 100];
        let listed = listed(List::Tools, &wrong);
        assert_eq!(listed.flaws.len(), MAX_FLAWS);
        let key = listed.flaws[0].key.clone().expect("a name");
        assert!(key.len() == MAX_SHOWN && !key.contains('\u{1b}'), "{key}");
    }
}
