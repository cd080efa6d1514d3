//! Which of our crates may depend on which, for every kind of dependency.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::sh::{self, Error, Result};

/// A crate, and what it may depend on.
struct Layer {
    name: &'static str,
    /// For every kind of dependency.
    any: Targets,
    /// For its tests only.
    dev: &'static [&'static str],
}

enum Targets {
    Only(&'static [&'static str]),
    All,
}

const LAYERS: &[Layer] = &[
    Layer { name: "blob-traits", any: Targets::Only(&[]), dev: &[] },
    Layer { name: "blob-mem", any: Targets::Only(&["blob-traits"]), dev: &[] },
    Layer { name: "blob-fs", any: Targets::Only(&["blob-traits"]), dev: &[] },
    Layer { name: "blob-gc", any: Targets::Only(&["blob-traits"]), dev: &[] },
    Layer { name: "blob-validate", any: Targets::Only(&["blob-traits"]), dev: &[] },
    Layer {
        name: "blob-conformance",
        any: Targets::Only(&["blob-traits", "blob-gc", "blob-validate"]),
        dev: &["blob-mem", "blob-fs"],
    },
    Layer {
        name: "blob-cli",
        any: Targets::Only(&["blob-traits", "blob-mem", "blob-fs", "blob-gc", "blob-validate"]),
        dev: &[],
    },
    Layer { name: "xtask", any: Targets::Only(&[]), dev: &[] },
    Layer { name: "blob-benches", any: Targets::All, dev: &[] },
];

/// One of our crates and its dependencies on our crates.
#[derive(Debug)]
struct Crate {
    name: String,
    edges: Vec<(String, DependencyKind)>,
}

pub(crate) fn run() -> Result<()> {
    let graph = own_crates(&workspace()?);
    let n_edges: usize = graph.iter().map(|krate| krate.edges.len()).sum();
    let findings = violations(&graph);
    for finding in &findings {
        eprintln!("layering: {finding}");
    }
    if findings.is_empty() {
        println!("layering: {} crates, {n_edges} dependencies between them, all allowed", graph.len());
        Ok(())
    } else {
        Err(Error::Findings { check: "layering", n_findings: findings.len() })
    }
}

fn workspace() -> Result<Metadata> {
    let manifest = sh::root().join("Cargo.toml");
    let locked = ["--locked".to_owned()];
    Ok(MetadataCommand::new().manifest_path(manifest).no_deps().other_options(locked).exec()?)
}

fn own_crates(metadata: &Metadata) -> Vec<Crate> {
    let packages = metadata.workspace_packages();
    let ours = |name: &str| packages.iter().any(|package| package.name.as_str() == name);
    let edges = |package: &cargo_metadata::Package| {
        let internal = package.dependencies.iter().filter(|d| d.path.is_some() || ours(&d.name));
        internal.map(|dependency| (dependency.name.clone(), dependency.kind)).collect()
    };
    packages.iter().map(|p| Crate { name: p.name.to_string(), edges: edges(p) }).collect()
}

fn violations(graph: &[Crate]) -> Vec<String> {
    let mut found = Vec::new();
    for krate in graph {
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == krate.name) else {
            found.push(format!("{} has no layer; give it one in xtask/src/layering.rs", krate.name));
            continue;
        };
        for (target, kind) in &krate.edges {
            if !layer.allows(target, *kind) {
                found.push(format!("{} must not depend on {target} ({kind} dependency)", krate.name));
            }
        }
    }
    found
}

impl Layer {
    fn allows(&self, target: &str, kind: DependencyKind) -> bool {
        let always = match self.any {
            Targets::All => true,
            Targets::Only(names) => names.contains(&target),
        };
        always || (kind == DependencyKind::Development && self.dev.contains(&target))
    }
}

#[cfg(test)]
mod tests {
    use cargo_metadata::DependencyKind::{Build, Development, Normal};

    use super::*;

    fn graph(edges: &[(&str, &str, DependencyKind)]) -> Vec<Crate> {
        let one = |&(from, to, kind): &(&str, &str, DependencyKind)| Crate {
            name: from.to_owned(),
            edges: vec![(to.to_owned(), kind)],
        };
        edges.iter().map(one).collect()
    }

    #[test]
    fn the_design_is_allowed() {
        let edges = [
            ("blob-mem", "blob-traits", Normal),
            ("blob-fs", "blob-traits", Development),
            ("blob-conformance", "blob-gc", Normal),
            ("blob-conformance", "blob-fs", Development),
            ("blob-cli", "blob-fs", Normal),
            ("blob-benches", "blob-cli", Normal),
        ];
        assert_eq!(violations(&graph(&edges)), Vec::<String>::new());
    }

    #[test]
    fn a_sibling_is_refused_for_every_kind_of_edge() {
        for kind in [Normal, Development, Build] {
            let found = violations(&graph(&[("blob-gc", "blob-mem", kind)]));
            assert_eq!(found.len(), 1, "{kind}");
            assert!(found[0].contains("blob-gc") && found[0].contains("blob-mem"), "{found:?}");
        }
    }

    #[test]
    fn nothing_is_below_blob_traits_and_nothing_is_linked_by_xtask() {
        let edges = [("blob-traits", "blob-mem", Development), ("xtask", "blob-traits", Normal)];
        assert_eq!(violations(&graph(&edges)).len(), 2);
    }

    #[test]
    fn a_backend_is_for_the_tests_of_the_conformance_suite_only() {
        assert_eq!(violations(&graph(&[("blob-conformance", "blob-mem", Normal)])).len(), 1);
    }

    #[test]
    fn an_unknown_crate_is_refused() {
        let found = violations(&graph(&[("blob-new", "blob-traits", Normal)]));
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("blob-new"), "{found:?}");
    }
}
