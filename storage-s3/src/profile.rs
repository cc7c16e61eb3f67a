//! The files that the AWS command line keeps. <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>

use std::path::PathBuf;

use ini::{Ini, ParseOption, Properties};
use storage_object::ConfigError;

/// A profile, as far as it is of use here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) access_key: Option<String>,
    pub(crate) secret_key: Option<String>,
    pub(crate) session_token: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) role_arn: Option<String>,
    pub(crate) role_session_name: Option<String>,
    pub(crate) web_identity_token_file: Option<String>,
    /// Where keys would come from in ways that are not supported.
    elsewhere: Option<String>,
}

/// Where the two files are, by the environment.
fn files(get: &dyn Fn(&str) -> Option<String>) -> [Option<PathBuf>; 2] {
    let home = get("HOME").map(PathBuf::from);
    let file = |variable: &str, name: &str| get(variable).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".aws").join(name)));
    [file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config")]
}

/// Reads a profile; `None` if there is none of that name. `setting` says who has named it.
pub(crate) fn read(name: &str, get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Profile>, ConfigError> {
    let [credentials, config] = files(get);
    let mut found = None;
    // Keys are looked for in the file for them first.
    let config_section = if name == "default" { name.to_owned() } else { format!("profile {name}") };
    for (path, section) in [(credentials, name), (config, config_section.as_str())] {
        let Some(path) = path.filter(|path| path.is_file()) else { continue };
        let told = |error: ini::Error| ConfigError::File { setting: "profile", path: path.display().to_string(), source: error.into() };
        let options = ParseOption { enabled_escape: false, enabled_quote: false, ..ParseOption::default() };
        let file = Ini::load_from_file_opt(&path, options).map_err(told)?;
        if let Some(section) = file.section(Some(section)) {
            add(found.get_or_insert_default(), section);
        }
    }
    let Some(profile) = found else { return Ok(None) };
    let unusable = |why: &str| ConfigError::Invalid { setting: "profile", value: name.to_owned(), why: why.to_owned() };
    match (&profile.access_key, &profile.secret_key, &profile.role_arn, &profile.web_identity_token_file) {
        (Some(_), None, ..) | (None, Some(_), ..) => {
            Err(unusable("it has one of aws_access_key_id and aws_secret_access_key, and not the other"))
        }
        (None, None, Some(_), None) => Err(unusable(
            "it takes on a role by another profile, which is not done here: give keys, or a web identity, or let `aws configure export-credentials` make some",
        )),
        (None, None, ..) if profile.elsewhere.is_some() => Err(unusable(
            "its keys come from single sign-on or from another program, which is not done here: let `aws configure export-credentials` make some",
        )),
        _ => Ok(Some(profile)),
    }
}

fn add(profile: &mut Profile, section: &Properties) {
    let Profile { access_key, secret_key, session_token, region, role_arn, role_session_name, web_identity_token_file, elsewhere } =
        profile;
    let mut fields: [(&mut Option<String>, &str); 7] = [
        (access_key, "aws_access_key_id"),
        (secret_key, "aws_secret_access_key"),
        (session_token, "aws_session_token"),
        (region, "region"),
        (role_arn, "role_arn"),
        (role_session_name, "role_session_name"),
        (web_identity_token_file, "web_identity_token_file"),
    ];
    for (field, key) in &mut fields {
        if field.is_none() {
            **field = section.get(key).map(str::trim).filter(|value| !value.is_empty()).map(ToOwned::to_owned);
        }
    }
    if let Some(key) = ["credential_process", "sso_session", "sso_start_url"].into_iter().find(|key| section.contains_key(key)) {
        *elsewhere = Some(key.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_the_region_come_from_the_two_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name).display().to_string()
        };
        let credentials = write(
            "credentials",
            "[default]\naws_access_key_id = AKIA1\naws_secret_access_key = a/b+c=\\d\"e\n\n# another\n[ci]\naws_access_key_id=AKIA2\naws_secret_access_key=s\naws_session_token = t\n[half]\naws_access_key_id = x\n",
        );
        let config = write(
            "config",
            "[default]\nregion = eu-west-1\ns3 =\n    max_concurrent_requests = 20\n[profile ci]\nregion=us-west-2\n[profile web]\nrole_arn = arn:aws:iam::1:role/r\nweb_identity_token_file = /token\n[profile assumed]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = default\n[profile sso]\nsso_session = ours\n",
        );
        let get = move |name: &str| match name {
            "AWS_SHARED_CREDENTIALS_FILE" => Some(credentials.clone()),
            "AWS_CONFIG_FILE" => Some(config.clone()),
            _ => None,
        };
        let default = read("default", &get).unwrap().unwrap();
        assert_eq!((default.access_key.as_deref(), default.secret_key.as_deref()), (Some("AKIA1"), Some("a/b+c=\\d\"e")));
        assert_eq!((default.region.as_deref(), default.session_token), (Some("eu-west-1"), None));
        let ci = read("ci", &get).unwrap().unwrap();
        assert_eq!(
            (ci.access_key.as_deref(), ci.session_token.as_deref(), ci.region.as_deref()),
            (Some("AKIA2"), Some("t"), Some("us-west-2"))
        );
        let web = read("web", &get).unwrap().unwrap();
        assert_eq!((web.role_arn.as_deref(), web.web_identity_token_file.as_deref()), (Some("arn:aws:iam::1:role/r"), Some("/token")));
        assert_eq!(read("nobody", &get).unwrap(), None);
        for bad in ["half", "assumed", "sso"] {
            let error = read(bad, &get).unwrap_err().to_string();
            assert!(error.starts_with(&format!("profile = \"{bad}\": it")), "{error}");
        }
    }
}
