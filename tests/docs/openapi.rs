//! The OpenAPI document of the source.

use serde_json::Value;

use super::json::Json;

/// The document, with its keys in order.
pub struct Document(Json);

impl Document {
    pub fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi.json");
        Self(Json::parse(&std::fs::read_to_string(path).expect("openapi.json")))
    }

    /// Returns what is at a path of keys.
    pub fn at(&self, keys: &[&str]) -> &Json {
        let get = |json, key: &&str| Json::get(json, key).unwrap_or_else(|| panic!("openapi.json has no {keys:?}"));
        keys.iter().fold(&self.0, get)
    }

    /// Follows a reference, if the value is one.
    pub fn resolve<'a>(&'a self, json: &'a Json) -> &'a Json {
        match json.get("$ref").and_then(Json::text) {
            Some(reference) => self.at(&reference.split('/').skip(1).collect::<Vec<_>>()),
            None => json,
        }
    }

    /// Returns path, method and description of each operation.
    pub fn operations(&self) -> Vec<(&str, &str, &Json)> {
        let mut operations = Vec::new();
        for (path, item) in self.at(&["paths"]).entries() {
            for (method, operation) in item.entries() {
                if ["get", "post", "delete"].contains(&method.as_str()) {
                    operations.push((path.as_str(), method.as_str(), operation));
                }
            }
        }
        operations
    }

    /// Returns the name of the component that a reference leads to.
    pub fn name_of(json: &Json) -> Option<&str> {
        json.get("$ref")?.text()?.rsplit('/').next()
    }

    /// Checks a value against a schema of the document.
    pub fn validate(&self, schema: &Json, value: &Value, what: &str) {
        let mut schema = schema.value();
        schema["components"] = self.at(&["components"]).value();
        let validator = jsonschema::draft202012::new(&schema).expect("a schema");
        let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{what}: {value}");
    }
}
