//! `SECURITY.md` and `STANDARDS.md` cite tests for their claims.

use std::fs;
use std::path::Path;

/// Every `module::test` between backquotes is there: `races::…` in a `races.rs` below `tests/api`, `shared::domain::…` in
/// `shared/src`.
#[test]
fn every_test_that_a_claim_rests_on_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = ["SECURITY.md", "STANDARDS.md"].map(|page| fs::read_to_string(root.join(page)).unwrap());
    let cited = pages
        .iter()
        .flat_map(|page| page.split('`').skip(1).step_by(2))
        .filter(|name| name.contains("::") && !name.contains('…'));
    let mut count = 0;
    for name in cited {
        let (module, test) = name.rsplit_once("::").unwrap();
        let file = if let Some(module) = module.strip_prefix("shared::") {
            let path = format!("shared/src/{}", module.replace("::", "/"));
            if root.join(&path).is_dir() { format!("{path}/mod.rs") } else { format!("{path}.rs") }
        } else {
            let folders = ["endpoints", "rules", "resilience", "documents"];
            let files = folders.map(|folder| format!("tests/api/{folder}/{module}.rs"));
            files.into_iter().find(|file| root.join(file).is_file()).unwrap_or_else(|| panic!("no {module}"))
        };
        let source = fs::read_to_string(root.join(&file)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(source.contains(&format!("fn {test}(")), "{name} is not in {file}");
        count += 1;
    }
    assert!(count > 50, "{count}");
}
