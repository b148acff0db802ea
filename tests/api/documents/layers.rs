//! The layers of `shared`: the rules of `domain` depend on nothing, and only the endpoints know HTTP.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules below the endpoints.
const BELOW: [&str; 10] = [
    "authentication",
    "code_verification",
    "domain",
    "fields",
    "hashing",
    "mail",
    "password_changes",
    "secrets",
    "store",
    "tokens",
];

/// The source files of a module: its file, or all files below its folder.
fn files(module: &Path) -> Vec<PathBuf> {
    let file = module.with_extension("rs");
    if file.is_file() {
        return vec![file];
    }
    let entries = fs::read_dir(module).unwrap_or_else(|error| panic!("{}: {error}", module.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The whole source of a module of `shared`.
fn source(module: &str) -> String {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/src").join(module);
    files(&module).iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// The modules of the crate that a source names: those after `crate::`, alone or in braces.
fn modules_used(source: &str) -> BTreeSet<&str> {
    let names = source.split("crate::").skip(1).flat_map(|path| match path.strip_prefix('{') {
        Some(list) => list.split('}').next().unwrap().split(',').collect(),
        None => vec![path],
    });
    let is_end = |character: char| !character.is_alphanumeric() && character != '_';
    names
        .map(|name| name.trim_start().split(is_end).next().unwrap())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn domain_uses_no_other_module_and_reads_no_settings() {
    let source = source("domain");
    assert!(source.len() > 10_000);
    let used = modules_used(&source);
    assert!(used.iter().all(|module| *module == "domain"), "{used:?}");
    for foreign in ["super::super::", "std::env", "lambda_http", "aws_sdk"] {
        assert!(!source.contains(foreign), "{foreign}");
    }
}

#[test]
fn modules_below_the_endpoints_do_not_know_them() {
    for module in BELOW {
        let source = source(module);
        let used = modules_used(&source);
        assert!(
            module == "domain" || used.contains("domain") || used.contains("settings"),
            "{module}: {used:?}"
        );
        assert!(!used.contains("endpoint") && !used.contains("function"), "{module}: {used:?}");
        assert!(!source.contains("lambda_http"), "{module} takes HTTP");
    }
}
