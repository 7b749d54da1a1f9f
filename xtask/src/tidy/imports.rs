//! Import circles: no file of a crate imports, through whatever other files, a file that imports
//! it, except for a parent module and its own child.
//!
//! A circle means that none of its files can be read, tested or moved without all the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// The segments of a module's path below its crate's root.
type ModulePath = Vec<String>;
/// The files that each file imports, by name from the repository's root.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// How many re-exports are followed from a name to the module that defines it.
const MAX_REEXPORTS: usize = 8;

/// The packages that still have circles, and how many files of each are in one. The numbers only
/// ever go down; a package without circles leaves the list.
const KNOWN: [(&str, usize); 3] = [("crates/authority", 48), ("crates/relay", 6), ("crates/web", 36)];

/// Reports the shortest circle of each group of files that import each other, in packages that have
/// more files in circles than they are known to have.
pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut untidy = Vec::new();
    for (package, graph) in graphs(root, files)? {
        let known = KNOWN.iter().find(|(name, _)| *name == package).map_or(0, |(_, files)| *files);
        let found = graph.keys().filter(|file| shortest_circle(&graph, file).is_some()).count();
        if found > known {
            untidy.extend(circles_of(&graph));
        }
        if found < known {
            untidy.push(format!(
                "{package} has {found} files in import circles, fewer than the {known} it is known to have: \
                 lower the number in xtask/src/tidy/imports.rs"
            ));
        }
    }
    Ok(untidy)
}

/// Returns each import between two files of a circle, for whoever wants to cut it.
pub(super) fn arrows(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut arrows = Vec::new();
    for (_, graph) in graphs(root, files)? {
        for (from, imported) in &graph {
            if shortest_circle(&graph, from).is_some() {
                let group = group_of(&graph, from);
                let within = imported.iter().filter(|other| group.contains(other));
                arrows.extend(within.map(|other| format!("{from} -> {other}")));
            }
        }
    }
    Ok(arrows)
}

/// Returns the graph of each package.
fn graphs(root: &Path, files: &[PathBuf]) -> Result<Vec<(String, Graph)>> {
    let mut sources: BTreeMap<String, Vec<(ModulePath, String, syn::File)>> = BTreeMap::new();
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        let Some((package, below)) = name.strip_suffix(".rs").and_then(|name| name.split_once("/src/"))
        else {
            continue;
        };
        let text = fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("{name} is not Rust"))?;
        sources.entry(package.to_owned()).or_default().push((module_path(below), name, parsed));
    }
    Ok(sources.into_iter().map(|(package, files)| (package, graph(&files))).collect())
}

/// Returns the module that a file below `src/` is; the crate's root is empty.
fn module_path(below: &str) -> ModulePath {
    let mut segments: ModulePath = below.split('/').map(str::to_owned).collect();
    match segments.last().map(String::as_str) {
        Some("mod") => drop(segments.pop()),
        Some("lib" | "main") if segments.len() == 1 => drop(segments.pop()),
        _ => {}
    }
    segments
}

fn graph(files: &[(ModulePath, String, syn::File)]) -> Graph {
    let names: BTreeMap<&ModulePath, &String> = files.iter().map(|(path, name, _)| (path, name)).collect();
    let mut seen = BTreeMap::new();
    for (path, _, parsed) in files {
        let mut imports = Imports { module: path.clone(), ..Imports::default() };
        imports.visit_file(parsed);
        seen.insert(path, imports);
    }
    let elsewhere: BTreeSet<&ModulePath> = seen.values().flat_map(|imports| &imports.elsewhere).collect();
    let is_here = |full: &&Vec<String>| !elsewhere.iter().any(|module| full.starts_with(module));
    let mut graph = Graph::new();
    for (path, name, _) in files {
        let imported = seen.get(path).into_iter().flat_map(|imports| &imports.paths).filter(is_here);
        let imported = imported.filter_map(|full| names.get(&defining(full, &names, &seen)).copied());
        graph.insert(name.clone(), imported.filter(|other| *other != name).cloned().collect());
    }
    graph
}

/// Returns the module that defines what a path names, through re-exports.
fn defining(
    full: &[String],
    names: &BTreeMap<&ModulePath, &String>,
    seen: &BTreeMap<&ModulePath, Imports>,
) -> ModulePath {
    let mut full = full.to_vec();
    for _ in 0..MAX_REEXPORTS {
        let module = (0..=full.len())
            .rev()
            .map(|length| full[..length].to_vec())
            .find(|path| names.contains_key(path))
            .unwrap_or_default();
        let next = full.get(module.len());
        let reexported = next.and_then(|name| seen.get(&module)?.reexports.get(name));
        match reexported {
            Some(target) => {
                let rest = full.split_off((module.len() + 1).min(full.len()));
                full = [target.clone(), rest].concat();
            }
            None => return module,
        }
    }
    Vec::new()
}

/// The paths that a file names, from its crate's root.
#[derive(Default)]
struct Imports {
    module: ModulePath,
    paths: BTreeSet<Vec<String>>,
    /// The names that `pub use` and `use` bring into the module, and where each comes from.
    reexports: BTreeMap<String, Vec<String>>,
    /// The modules that the file declares.
    children: BTreeSet<String>,
    /// The modules whose file is elsewhere (`#[path]`), from the crate's root.
    elsewhere: BTreeSet<ModulePath>,
}

impl Imports {
    /// Returns a path from the crate's root; `None` for one of another crate.
    fn absolute(&self, segments: &[String]) -> Option<Vec<String>> {
        let mut base = self.module.clone();
        let mut rest = segments;
        match rest.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            _ => return None,
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    fn used(&mut self, tree: &UseTree, prefix: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.used(&path.tree, prefix);
                prefix.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.used(tree, prefix)),
            UseTree::Glob(_) => self.import(prefix.clone(), None),
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                let mut full = prefix.clone();
                if name != "self" {
                    full.push(name);
                }
                let bound = full.last().cloned();
                self.import(full, bound);
            }
            UseTree::Rename(rename) => {
                let full = [prefix.clone(), vec![rename.ident.to_string()]].concat();
                self.import(full, Some(rename.rename.to_string()));
            }
        }
    }

    fn import(&mut self, segments: Vec<String>, bound: Option<String>) {
        // In the 2021 edition and later, `use child::Name` names a child module as well.
        let full = self.absolute(&segments).or_else(|| {
            let mut below = self.module.clone();
            below.extend(segments.iter().cloned());
            self.children.contains(segments.first()?).then_some(below)
        });
        if let Some(full) = full {
            if let Some(bound) = bound {
                self.reexports.insert(bound, full.clone());
            }
            self.paths.insert(full);
        }
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_file(&mut self, file: &'ast syn::File) {
        let modules = file.items.iter().filter_map(|item| match item {
            Item::Mod(module) if !is_test(&module.attrs) => Some(module.ident.to_string()),
            _ => None,
        });
        self.children.extend(modules);
        for item in &file.items {
            if let Item::Mod(module) = item
                && module.attrs.iter().any(|attribute| attribute.path().is_ident("path"))
            {
                self.elsewhere.insert([self.module.clone(), vec![module.ident.to_string()]].concat());
            }
        }
        visit::visit_file(self, file);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            self.module.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.used(&item.tree, &mut Vec::new());
        }
    }

    // `pub(crate)` and `pub(super)` import nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.import(path.segments.iter().map(|segment| segment.ident.to_string()).collect(), None);
        visit::visit_path(self, path);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|option| option.is_ident("test"))
    })
}

/// Returns the shortest circle of each group of files that import each other.
fn circles_of(graph: &Graph) -> Vec<String> {
    let mut circles: Vec<Vec<&String>> = Vec::new();
    for from in graph.keys() {
        circles.extend(shortest_circle(graph, from));
    }
    circles.sort_by_key(Vec::len);
    let mut reported = BTreeSet::new();
    let mut told = Vec::new();
    for circle in circles {
        let group = group_of(graph, circle[0]);
        if reported.insert(group.iter().next().copied()) {
            let files = circle.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" -> ");
            told.push(format!(
                "{files} -> {}: an import circle (of {} files that import each other)",
                circle[0],
                group.len()
            ));
        }
    }
    told
}

/// Returns the shortest way from a file over its imports back to it, other than to its parent
/// module or a child of its own and straight back.
fn shortest_circle<'graph>(graph: &'graph Graph, from: &'graph String) -> Option<Vec<&'graph String>> {
    let mut before: BTreeMap<&String, &String> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for next in graph.get(at)? {
            if next == from {
                if before.get(at).is_some_and(|before| *before == from) && is_child_or_parent(at, from) {
                    continue;
                }
                let mut circle = vec![at];
                while let Some(previous) = before.get(circle[circle.len() - 1]) {
                    circle.push(previous);
                }
                circle.reverse();
                return Some(circle);
            }
            if !before.contains_key(next) {
                before.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

/// Returns the files that a file imports and is imported by, at any distance.
fn group_of<'graph>(graph: &'graph Graph, file: &'graph String) -> BTreeSet<&'graph String> {
    let reached = |from: &'graph String| {
        let mut reached = BTreeSet::new();
        let mut left = vec![from];
        while let Some(at) = left.pop() {
            for next in graph.get(at).into_iter().flatten() {
                if reached.insert(next) {
                    left.push(next);
                }
            }
        }
        reached
    };
    reached(file).into_iter().filter(|other| reached(other).contains(file)).collect()
}

fn is_child_or_parent(one: &str, other: &str) -> bool {
    let module =
        |name: &str| name.split_once("/src/").map(|(_, below)| module_path(below.trim_end_matches(".rs")));
    let (Some(one), Some(other)) = (module(one), module(other)) else { return false };
    let is_child = |child: &ModulePath, parent: &ModulePath| {
        child.split_last().is_some_and(|(_, rest)| rest == &parent[..])
    };
    is_child(&one, &other) || is_child(&other, &one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files
            .iter()
            .map(|(below, text)| {
                let name = format!("crates/a/src/{below}.rs");
                (module_path(below), name, syn::parse_file(text).expect("Rust"))
            })
            .collect();
        circles_of(&graph(&files))
    }

    #[test]
    fn siblings_that_import_each_other_are_reported() {
        let told = circles(&[
            ("lib", "mod one; mod two; pub use one::One;"),
            ("one", "use crate::two::Two; pub struct One;"),
            ("two", "use super::one::One; pub struct Two;"),
        ]);
        assert_eq!(
            told,
            ["crates/a/src/one.rs -> crates/a/src/two.rs -> crates/a/src/one.rs: an import circle \
              (of 2 files that import each other)"]
        );
    }

    #[test]
    fn a_parent_and_its_child_may_import_each_other() {
        let told = circles(&[
            ("lib", "mod one; mod two;"),
            ("one/mod", "mod below; use below::Below; pub struct One;"),
            ("one/below", "use super::One; pub struct Below;"),
            ("two", "use crate::one::One;"),
        ]);
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn circles_through_reexports_groups_and_paths_in_code_are_found() {
        let told = circles(&[
            ("lib", "mod one; mod two; mod three; pub use two::{self, Two as Second};"),
            ("one", "use crate::{three::*, Second}; pub fn one() {}"),
            ("two", "pub struct Two; fn two() { crate::one::one() }"),
            ("three", "#[cfg(test)] mod tests { use crate::one::one; }"),
        ]);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("crates/a/src/one.rs -> crates/a/src/two.rs -> crates/a/src/one.rs"));
    }
}
