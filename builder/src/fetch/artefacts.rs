//! Where artefacts are taken from before they are asked for where they are published: folders and mirrors.

use super::mirrors::Location;
use crate::cluster;
use crate::lock::Url;
use std::path::PathBuf;

/// The environment variable that names folders and mirrors, with commas between them.
pub const VARIABLE: &str = "KILN_ARTEFACTS";

/// A place that was named is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A folder that is not there.
    #[error("{VARIABLE}: there is no folder {}", folder.display())]
    NoFolder {
        /// As it was given.
        folder: PathBuf,
    },
    /// Neither http, https, file nor a path.
    #[error("{VARIABLE}: {place} is neither an address, which begins with https:// or http://, nor a folder")]
    NoAddress {
        /// As it was given, without credentials.
        place: String,
    },
}

/// Folders and mirrors with copies of what others publish; the first to be tried first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(Vec<Location>);

impl Places {
    /// Those of the environment ([`VARIABLE`]; relative folders count from the working directory), then those that the
    /// cluster file names.
    pub fn gather(environment: Option<&str>, named: &[cluster::Location]) -> Result<Self, Error> {
        let mut places = Vec::new();
        let texts = environment.unwrap_or_default().split(',').map(str::trim);
        for text in texts.filter(|text| !text.is_empty()) {
            places.push(place(text)?);
        }
        places.extend(named.iter().map(|named| match named {
            cluster::Location::Url(url) => Location::Http(url.clone()),
            cluster::Location::Folder(folder) => Location::File(folder.clone()),
        }));
        Ok(Self(places))
    }

    /// Where the file of that address can be had: at each place, and at last where it is published.
    pub fn locations(&self, url: Url<'_>) -> Vec<Location> {
        let copies = self.0.iter().flat_map(|place| copies(place, url));
        copies.chain([Location::Http(url.text().to_owned())]).collect()
    }

    /// The places.
    pub fn iter(&self) -> impl Iterator<Item = &Location> {
        self.0.iter()
    }
}

/// Where a place would have the file of that address: below the path that it has where it is published, which tells
/// versions apart, or under its plain name. Folders have names decoded; mirrors are asked in the words of the address.
pub fn copies(place: &Location, url: Url<'_>) -> [Location; 2] {
    match place {
        Location::File(_) => [place.join(&url.file_path()), place.join(&url.file_name())],
        Location::Http(_) => [place.join(url.path()), place.join(url.name())],
    }
}

fn place(text: &str) -> Result<Location, Error> {
    let no_address = || Error::NoAddress { place: Location::Http(text.to_owned()).to_string() };
    if let Some((_, rest)) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
    {
        let host = rest.split('/').next().unwrap_or_default();
        let sound = !host.is_empty() && !text.contains(char::is_whitespace);
        return if sound {
            Ok(Location::Http(text.trim_end_matches('/').to_owned()))
        } else {
            Err(no_address())
        };
    }
    let folder = PathBuf::from(text.strip_prefix("file://").unwrap_or(text));
    match folder.is_dir() {
        true => Ok(Location::File(folder)),
        false if text.contains("://") && !text.starts_with("file://") => Err(no_address()),
        false => Err(Error::NoFolder { folder }),
    }
}

#[cfg(test)]
mod tests {
    use super::Places;
    use crate::cluster::Location;
    use crate::lock::Url;

    #[test]
    fn the_environment_comes_first_and_the_published_address_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let named = [Location::Url("https://mirror/files".to_owned())];
        let places = Places::gather(Some(&format!(" {path} ,")), &named).unwrap();
        let url = "https://host/dl/v1%2Bk3s1/k3s?x=1";
        let locations = places.locations(Url::parse(url).unwrap());
        let texts: Vec<String> = locations.iter().map(ToString::to_string).collect();
        let expected = [
            format!("{path}/dl/v1+k3s1/k3s"),
            format!("{path}/k3s"),
            "https://mirror/files/dl/v1%2Bk3s1/k3s".to_owned(),
            "https://mirror/files/k3s".to_owned(),
            url.to_owned(),
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn places_that_are_none_are_named() {
        let fault = |text: &str| Places::gather(Some(text), &[]).unwrap_err().to_string();
        assert_eq!(fault("/no/such"), "KILN_ARTEFACTS: there is no folder /no/such");
        assert_eq!(
            fault("ftp://me:secret@host/x"),
            "KILN_ARTEFACTS: ftp://host/x is neither an address, which begins with https:// or http://, nor a folder"
        );
    }
}
