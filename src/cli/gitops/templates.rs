//! Creates the files of a deployment from the samples of `deploy/`, with other names and numbers.
//! Also changes single lines of files that people may have edited. Pure.
//!
//! The samples are complete manifests of a user named `user`, so that checkers accept them. There
//! is no template language. The replacements contain no character that is special to YAML, systemd,
//! podman or a shell: see [`Image`], [`PlainPath`] and [`PluginName`].

use super::image::Image;
use crate::plugin::PluginName;

/// A file of the repository.
#[derive(Debug, Clone, Copy)]
pub(super) struct Template {
    /// The path in the repository, with the names of the sample.
    path: &'static str,
    text: &'static str,
}

macro_rules! template {
    ($path:literal, $source:literal) => {
        Template { path: $path, text: include_str!(concat!("../../../deploy/", $source)) }
    };
}

/// The files of the primary daemon, and the shared ones.
pub(super) const DAEMON: &[Template] = &[
    template!("README.md", "gitops/README.md"),
    template!("kustomization.yaml", "gitops/kustomization.yaml"),
    template!("hecate-daemon/kustomization.yaml", "k3s/base/kustomization.yaml"),
    template!("hecate-daemon/namespace.yaml", "k3s/base/namespace.yaml"),
    template!("hecate-daemon/config.env", "k3s/base/config.env"),
    template!("hecate-daemon/daemonset.yaml", "k3s/base/daemonset.yaml"),
    template!("hecate-daemon/service.yaml", "k3s/base/service.yaml"),
    template!("hecate-daemon/networkpolicy.yaml", "k3s/base/networkpolicy.yaml"),
    template!("hecate-daemon/hecate-daemon.container", "quadlet/hecate-daemon.container"),
    template!("hecate-daemon/hecate-daemon.env", "quadlet/hecate-daemon.env"),
    template!("components/pod-network/kustomization.yaml", "k3s/components/pod-network/kustomization.yaml"),
    template!("components/root/kustomization.yaml", "k3s/components/root/kustomization.yaml"),
    template!("components/root/config.env", "k3s/components/root/config.env"),
    template!("flux/kustomization.yaml", "flux/kustomization.yaml"),
    template!("flux/git-server.yaml", "flux/git-server.yaml"),
    template!("flux/sync.yaml", "flux/sync.yaml"),
];

/// The files of a plugin.
pub(super) const PLUGIN: &[Template] = &[
    template!("hecate-traderd/kustomization.yaml", "k3s/plugin/hecate-traderd/kustomization.yaml"),
    template!("hecate-traderd/daemonset.yaml", "k3s/plugin/hecate-traderd/daemonset.yaml"),
    template!("hecate-traderd/hecate-traderd.container", "quadlet/hecate-traderd.container"),
    template!("hecate-traderd/hecate-traderd.env", "quadlet/hecate-traderd.env"),
];

/// The files of a frontend.
pub(super) const FRONTEND: &[Template] = &[
    template!("hecate-traderw/kustomization.yaml", "k3s/plugin/hecate-traderw/kustomization.yaml"),
    template!("hecate-traderw/daemonset.yaml", "k3s/plugin/hecate-traderw/daemonset.yaml"),
    template!("hecate-traderw/hecate-traderw.container", "quadlet/hecate-traderw.container"),
];

/// The list of deployed directories, in the root of the repository.
pub(super) const ROOT: &str = "kustomization.yaml";
/// The server that gives Flux access to the repository. It runs as the owner of the repository.
pub(super) const GIT_SERVER: &str = "flux/git-server.yaml";
/// The daemon's settings.
pub(super) const SETTINGS: &str = "hecate-daemon/config.env";
/// The settings that replace some of them if the daemon runs as root.
pub(super) const ROOT_SETTINGS: &str = "components/root/config.env";

// ---- Replacements ---------------------------------------------------------------------------

/// An absolute path without characters that are special to YAML, systemd, podman or a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlainPath(String);

/// The path has a special character, or is not absolute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be used in manifests and units; use a home with only letters, digits, `.`, `_`, `-`, `+` and `/`"
)]
pub(super) struct PathError(String);

impl PlainPath {
    pub(super) fn parse(path: &str) -> Result<Self, PathError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '/');
        match path.starts_with('/') && path.chars().all(allowed) {
            true => Ok(Self(path.to_owned())),
            false => Err(PathError(path.to_owned())),
        }
    }
}

/// The replacements for the names and numbers of the samples.
#[derive(Debug, Clone)]
pub(super) struct Values {
    /// Home.
    pub home: PlainPath,
    /// `HOME` of the owner of home.
    pub user_home: PlainPath,
    /// The owner of home, and user of the daemon.
    pub uid: u32,
    /// The group that plugins and the daemon share.
    pub gid: u32,
    /// The daemon's image.
    pub image: Image,
    /// The plugin, if one is deployed.
    pub plugin: Option<Plugin>,
}

/// A plugin to deploy.
#[derive(Debug, Clone)]
pub(super) struct Plugin {
    pub name: PluginName,
    pub image: Image,
    pub frontend_image: Option<Image>,
    /// The user of the plugin.
    pub uid: u32,
}

/// Returns the name of a plugin's frontend.
pub(super) fn frontend_of(name: &PluginName) -> String {
    format!("{}w", name.as_str().strip_suffix('d').unwrap_or(name.as_str()))
}

/// Returns the paths and texts of the files with these values.
pub(super) fn render(templates: &[Template], values: &Values) -> Vec<(String, String)> {
    let pairs = pairs(values);
    templates.iter().map(|template| (replace(template.path, &pairs), replace(template.text, &pairs))).collect()
}

/// Returns the words of the samples with their replacements. A word comes before its prefixes.
fn pairs(values: &Values) -> Vec<(&'static str, String)> {
    let home = &values.home.0;
    let is_default = *home == format!("{}/.hecate", values.user_home.0);
    let mut pairs = vec![
        ("/home/user/.hecate", home.clone()),
        ("/home/user", values.user_home.0.clone()),
        // In units of a user, `%h` is the home directory.
        ("%h/.hecate", if is_default { "%h/.hecate".to_owned() } else { home.clone() }),
        ("localhost/hecate-daemon:0.1.0", values.image.to_string()),
        (": 1000\n", format!(": {}\n", values.uid)),
        (": 2000\n", format!(": {}\n", values.gid)),
        ("[2000]", format!("[{}]", values.gid)),
        ("=2000\n", format!("={}\n", values.gid)),
        ("HECATE_ALLOWED_UIDS=1001\n", "HECATE_ALLOWED_UIDS=\n".to_owned()),
    ];
    if let Some(plugin) = &values.plugin {
        let frontend_image = plugin.frontend_image.as_ref().unwrap_or(&plugin.image);
        pairs.extend([
            ("registry.example/hecate-traderd:0.1.0", plugin.image.to_string()),
            ("registry.example/hecate-traderw:0.1.0", frontend_image.to_string()),
            ("hecate-traderd", plugin.name.to_string()),
            ("hecate-traderw", frontend_of(&plugin.name)),
            ("hecate_traderd", plugin.name.node_short_name()),
            (": 1001\n", format!(": {}\n", plugin.uid)),
        ]);
    }
    pairs
}

/// Replaces the words in one pass, so that no replacement is replaced again.
fn replace(text: &str, pairs: &[(&str, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match pairs.iter().find_map(|(word, value)| Some((rest.strip_prefix(word)?, value))) {
            Some((after, value)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    out
}

// ---- Lines of files that people may have changed --------------------------------------------

/// A line to change is missing, or not unique.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it must have exactly one line that begins with `{0}`; change it by hand, and commit it")]
pub(super) struct LineError(&'static str);

/// The beginnings of the image line in a manifest, and in a Quadlet unit.
const IMAGE_LINES: [&str; 2] = ["image:", "Image="];

fn image_line(path: &str) -> &'static str {
    let [yaml, unit] = IMAGE_LINES;
    if path.ends_with(".yaml") { yaml } else { unit }
}

/// Returns the image that a manifest or a unit names.
pub(super) fn image_in(path: &str, text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(image_line(path)))?;
    Some(line.trim().trim_matches('"').to_owned())
}

/// Returns the file with another image.
pub(super) fn with_image(path: &str, text: &str, image: &Image) -> Result<String, LineError> {
    let quoted = if path.ends_with(".yaml") { format!(" \"{image}\"") } else { image.to_string() };
    with_line(text, image_line(path), &quoted)
}

/// Returns the manifest with another user and group.
pub(super) fn with_user(text: &str, uid: u32, gid: u32) -> Result<String, LineError> {
    let text = with_line(text, "runAsUser:", &format!(" {uid}"))?;
    with_line(&text, "runAsGroup:", &format!(" {gid}"))
}

/// Returns the user that a manifest names.
pub(super) fn user_in(text: &str) -> Option<u32> {
    text.lines().find_map(|line| line.trim_start().strip_prefix("runAsUser:"))?.trim().parse().ok()
}

/// Returns the manifest with permission to run as root.
pub(super) fn as_root(text: &str) -> Result<String, LineError> {
    with_line(text, "runAsNonRoot:", " false")
}

/// The setting with the users who may call the daemon.
const ALLOWED: &str = "HECATE_ALLOWED_UIDS=";

fn allowed(text: &str) -> Option<Vec<String>> {
    let listed = text.lines().find_map(|line| line.strip_prefix(ALLOWED))?;
    Some(listed.split(',').map(str::trim).filter(|uid| !uid.is_empty()).map(str::to_owned).collect())
}

/// Returns whether the settings allow a user to call the daemon.
pub(super) fn is_allowed(text: &str, uid: u32) -> bool {
    allowed(text).is_some_and(|uids| uids.contains(&uid.to_string()))
}

/// Returns the settings with one more user who may call the daemon.
pub(super) fn with_allowed(text: &str, uid: u32) -> Result<String, LineError> {
    let mut uids = allowed(text).ok_or(LineError(ALLOWED))?;
    let uid = uid.to_string();
    if uids.contains(&uid) {
        return Ok(text.to_owned());
    }
    uids.push(uid);
    with_line(text, ALLOWED, &uids.join(","))
}

/// Returns the variables of a settings file.
pub(super) fn settings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='))
}

/// Sets the text after `key` in the only line that begins with it, after indentation.
fn with_line(text: &str, key: &'static str, value: &str) -> Result<String, LineError> {
    let mut found = 0;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let body = line.trim_start();
        if body.starts_with(key) {
            found += 1;
            let indent = line.len() - body.len();
            out.push_str(line.get(..indent).unwrap_or_default());
            out.push_str(&format!("{key}{value}\n"));
        } else {
            out.push_str(line);
        }
    }
    if found == 1 { Ok(out) } else { Err(LineError(key)) }
}

/// Returns the root's list with one more directory, or without it. The list follows `resources:`,
/// one entry per line with any indentation, with comments between them.
pub(super) fn with_listed(text: &str, name: &str, listed: bool) -> Result<String, LineError> {
    const KEY: &str = "resources:";
    let mut lines: Vec<&str> = text.lines().collect();
    let heads = lines.iter().filter(|line| line.trim_end() == KEY).count();
    let head = lines.iter().position(|line| line.trim_end() == KEY).filter(|_| heads == 1).ok_or(LineError(KEY))?;
    let (mut end, mut indent, mut found) = (head + 1, "  ", None);
    for (at, line) in lines.iter().enumerate().skip(end) {
        let body = line.trim_start();
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        let Some(entry) = body.strip_prefix("- ") else { break };
        (end, indent) = (at + 1, line.strip_suffix(body).unwrap_or_default());
        let entry = entry.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        if entry.trim_start_matches("./").trim_end_matches('/') == name {
            found = Some(at);
        }
    }
    let line = format!("{indent}- {name}");
    match found {
        Some(at) if !listed => drop(lines.remove(at)),
        None if listed => lines.insert(end, &line),
        _ => {}
    }
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

/// Returns the root's list with a component for all directories.
pub(super) fn with_component(text: &str, component: &str) -> String {
    format!("{text}components:\n  - components/{component}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::sample::name;

    fn image(text: &str) -> Image {
        Image::parse(text).expect("an image")
    }

    fn values() -> Values {
        Values {
            home: PlainPath::parse("/srv/1000/.hecate").expect("plain"),
            user_home: PlainPath::parse("/srv/1000").expect("plain"),
            uid: 4242,
            gid: 4343,
            image: image("r.example/d:2"),
            plugin: Some(Plugin {
                name: name("hecate-app-scribed"),
                image: image("r.example/s/hecate-traderw:1"),
                frontend_image: Some(image(
                    "r.example:5000/w@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                )),
                uid: 4444,
            }),
        }
    }

    #[test]
    fn a_stopped_machine_does_not_block_the_upgrade_of_another() {
        let rendered = [DAEMON, PLUGIN, FRONTEND].iter().flat_map(|templates| render(templates, &values()));
        let sets: Vec<_> = rendered.filter(|(path, _)| path.ends_with("daemonset.yaml")).collect();
        assert_eq!(sets.len(), 3);
        for (path, text) in sets {
            // Kubernetes allows only one of the two to be above zero.
            assert!(text.contains("    rollingUpdate:\n      maxSurge: 0\n      maxUnavailable: 100%\n"), "{path}");
        }
    }

    #[test]
    fn a_home_with_special_characters_is_refused() {
        assert!(PlainPath::parse("/home/a.b-c_d+e/.hecate").is_ok());
        for bad in
            ["", "home", "/a b", "/a\"b", "/a%h", "/a$b", "/a:b", "/a\nb", "/\u{e4}", "/a#b", "/a'", "/a\\b", "/a,b"]
        {
            assert!(PlainPath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_word_of_the_sample_remains() {
        for (path, text) in [DAEMON, PLUGIN, FRONTEND].into_iter().flat_map(|files| render(files, &values())) {
            // These replacements contain words of the sample.
            let text = text.replace("r.example/s/hecate-traderw:1", "").replace("/srv/1000", "");
            for word in ["/home/user", "trader", "registry.example", "1000", "1001", "2000"] {
                assert!(!path.contains(word) && !text.contains(word), "{word} in {path}:\n{text}");
            }
        }
        let all = |files| render(files, &values()).into_iter().map(|(_, text)| text).collect::<String>();
        let plugin = all(PLUGIN);
        for line in [
            "mountPath: \"/srv/1000/.hecate/hecate-app-scribed\"",
            "value: hecate_app_scribed",
            "runAsUser: 4444",
            "supplementalGroups: [4343]",
            "image: \"r.example/s/hecate-traderw:1\"",
            "Image=r.example/s/hecate-traderw:1",
            "Volume=%h/.hecate/hecate-app-scribed:%h/.hecate/hecate-app-scribed",
        ] {
            assert!(plugin.contains(line), "{line} in {plugin}");
        }
        let daemon = all(DAEMON);
        for line in ["runAsUser: 4242", "HECATE_GROUP=4343\n", "HECATE_ALLOWED_UIDS=\n", "image: \"r.example/d:2\""] {
            assert!(daemon.contains(line), "{line} in {daemon}");
        }
        let paths: Vec<String> = render(FRONTEND, &values()).into_iter().map(|(path, _)| path).collect();
        assert!(paths.contains(&"hecate-app-scribew/hecate-app-scribew.container".to_owned()), "{paths:?}");
    }

    #[test]
    fn a_home_outside_of_the_users_is_written_in_full() {
        let values = Values { user_home: PlainPath::parse("/root").expect("plain"), ..values() };
        let units: String = render(PLUGIN, &values).into_iter().map(|(_, text)| text).collect();
        assert!(
            units.contains("Volume=/srv/1000/.hecate/hecate-app-scribed:/srv/1000/.hecate/hecate-app-scribed"),
            "{units}"
        );
        assert!(!units.contains("%h/.hecate") && units.contains("HOME=%h"), "{units}");
    }

    #[test]
    fn only_a_unique_line_is_changed() {
        let yaml = "a: 1\n  image: \"x:1\" # old\n  b: 2\n";
        assert_eq!(image_in("d.yaml", "  image: \"x:1\"\n").as_deref(), Some("x:1"));
        assert_eq!(image_in("d.container", "[Container]\nImage=x:1\n").as_deref(), Some("x:1"));
        assert_eq!(with_image("d.yaml", yaml, &image("y:2")).as_deref(), Ok("a: 1\n  image: \"y:2\"\n  b: 2\n"));
        assert_eq!(with_image("d.container", "Image=x:1", &image("y:2")).as_deref(), Ok("Image=y:2\n"));
        assert_eq!(with_image("d.yaml", "image: a\nimage: b\n", &image("y:2")), Err(LineError("image:")));
        assert_eq!(with_image("d.yaml", "", &image("y:2")), Err(LineError("image:")));
        assert_eq!(with_allowed("HECATE_ALLOWED_UIDS=\n", 7).as_deref(), Ok("HECATE_ALLOWED_UIDS=7\n"));
        assert_eq!(with_allowed("HECATE_ALLOWED_UIDS=7, 8\n", 9).as_deref(), Ok("HECATE_ALLOWED_UIDS=7,8,9\n"));
        assert_eq!(with_allowed("HECATE_ALLOWED_UIDS=7,8\n", 8).as_deref(), Ok("HECATE_ALLOWED_UIDS=7,8\n"));
        assert_eq!(with_allowed("X=1\n", 8), Err(LineError("HECATE_ALLOWED_UIDS=")));
    }

    #[test]
    fn the_list_keeps_entries_of_others() {
        let text = "# mine\nresources:\n  - hecate-daemon\n  - own\n\npatches: []\n";
        let more = with_listed(text, "hecate-traderd", true).expect("listed");
        assert_eq!(more, "# mine\nresources:\n  - hecate-daemon\n  - own\n  - hecate-traderd\n\npatches: []\n");
        assert_eq!(with_listed(&more, "hecate-traderd", true).as_ref(), Ok(&more));
        assert_eq!(with_listed(&more, "hecate-traderd", false).as_deref(), Ok(text));
        assert_eq!(with_listed(text, "hecate-traderd", false).as_deref(), Ok(text));
        assert!(with_listed("resources: [a]\n", "b", true).is_err());

        // With and without indentation, comments and quotes.
        let text =
            "resources:\n# first\n- hecate-daemon\n\n# second\n- './hecate-traderd/' # mine\n# last\npatches: []\n";
        assert_eq!(with_listed(text, "hecate-traderd", true).as_deref(), Ok(text));
        let more = with_listed(text, "hecate-traderw", true).expect("listed");
        assert_eq!(more, text.replace("# mine\n", "# mine\n- hecate-traderw\n"));
        let fewer = with_listed(text, "hecate-traderd", false).expect("listed");
        assert_eq!(fewer, text.replace("- './hecate-traderd/' # mine\n", ""));
    }
}
