//! `SECURITY.md`, `STANDARDS.md` and `INVENTORY.md` cite tests for their claims.

use std::fs;
use std::path::{Path, PathBuf};

/// The source of a module of these tests: of its file, or of all files below the folder of its name.
fn source_of_tests(root: &Path, module: &str) -> String {
    let folders = ["endpoints", "rules", "resilience", "documents"];
    let places: Vec<PathBuf> =
        folders.iter().map(|folder| root.join("tests/api").join(folder).join(module)).collect();
    if let Some(file) = places.iter().map(|place| place.with_extension("rs")).find(|file| file.is_file()) {
        return fs::read_to_string(file).unwrap();
    }
    let folder = places.iter().find(|place| place.is_dir()).unwrap_or_else(|| panic!("no {module}"));
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// Every `module::test` between backquotes is there: `races::…` in `races.rs` or a folder `races` below `tests/api`,
/// `shared::domain::…` in `shared/src`.
#[test]
fn every_cited_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = ["SECURITY.md", "STANDARDS.md", "INVENTORY.md"];
    let pages = pages.map(|page| fs::read_to_string(root.join(page)).unwrap());
    let cited = pages
        .iter()
        .flat_map(|page| page.split('`').skip(1).step_by(2))
        .filter(|name| name.contains("::") && !name.contains('…'));
    let mut count = 0;
    for name in cited {
        let (module, test) = name.rsplit_once("::").unwrap();
        let source = if let Some(module) = module.strip_prefix("shared::") {
            let path = root.join("shared/src").join(module.replace("::", "/"));
            let file = if path.is_dir() { path.join("mod.rs") } else { path.with_extension("rs") };
            fs::read_to_string(file).unwrap_or_else(|error| panic!("{name}: {error}"))
        } else {
            source_of_tests(&root, module)
        };
        assert!(source.contains(&format!("fn {test}(")), "{name} is not there");
        count += 1;
    }
    assert!(count > 50, "{count}");
}
