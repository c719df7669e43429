//! Combines all files into one configuration: a section may be in one file only, routes and certificates accumulate.

use super::{
    super::{Config, Diagnostic, Diagnostics, Located, Location, Tls, check::check, schema::File},
    Loader,
};

// === impl Loader ===

impl Loader<'_> {
    /// Combines the files and checks the whole configuration.
    pub(super) fn finish(mut self) -> Result<Config, Diagnostics> {
        let mut whole = File::default();
        for (_, file) in std::mem::take(&mut self.files) {
            self.once("server", &mut whole.server, file.server);
            self.once("limits", &mut whole.limits, file.limits);
            self.once("drain", &mut whole.drain, file.drain);
            self.once("session", &mut whole.session, file.session);
            self.once("acme", &mut whole.acme, file.acme);
            match (&mut whole.tls, file.tls) {
                (Some(first), Some(more)) if only_certificates(&more) => {
                    first.value.certificates.extend(more.value.certificates);
                }
                (first, more) => self.once("tls", first, more),
            }
            for (name, pool) in file.pools {
                if let Some(first) = whole.pools.get(&name) {
                    self.twice(&format!("pools.{name}"), first.at, pool.at);
                } else {
                    whole.pools.insert(name, pool);
                }
            }
            whole.routes.extend(file.routes);
        }
        let places = [
            (
                "server",
                whole.server.as_ref().and_then(|section| section.at),
            ),
            (
                "limits",
                whole.limits.as_ref().and_then(|section| section.at),
            ),
            ("tls", whole.tls.as_ref().and_then(|section| section.at)),
            ("drain", whole.drain.as_ref().and_then(|section| section.at)),
            ("acme", whole.acme.as_ref().and_then(|section| section.at)),
            (
                "session",
                whole.session.as_ref().and_then(|section| section.at),
            ),
        ];
        let config = Config {
            sections: places
                .into_iter()
                .filter_map(|(name, at)| Some((name, at?)))
                .collect(),
            server: whole.server.map(|server| server.value).unwrap_or_default(),
            limits: whole.limits.map(|limits| limits.value).unwrap_or_default(),
            drain: whole.drain.map(|drain| drain.value).unwrap_or_default(),
            tls: whole.tls.map(|tls| tls.value).unwrap_or_default(),
            acme: whole.acme.map(|acme| acme.value),
            session: whole
                .session
                .map(|session| session.value)
                .unwrap_or_default(),
            pools: whole.pools,
            routes: whole.routes,
            watched: {
                let files = self.sources.iter().map(|source| source.path.clone());
                files.chain(std::mem::take(&mut self.folders)).collect()
            },
            sources: self.sources.clone().into(),
        };
        let mut contradictions = check(&config, &self.source_map);
        // A value that could not be read has already been reported.
        contradictions.retain(|new| !self.diagnostics.iter().any(|old| old.at == new.at));
        self.diagnostics.extend(contradictions);
        match self.diagnostics.is_empty() {
            true => Ok(config),
            false => Err(Diagnostics::new(self.sources.into(), self.diagnostics)),
        }
    }

    /// Takes a section from one file; reports it if an earlier file has it too.
    fn once<T>(&mut self, name: &str, first: &mut Option<Located<T>>, more: Option<Located<T>>) {
        match (&first, more) {
            (None, more) => *first = more,
            (Some(first), Some(more)) => self.twice(name, first.at, more.at),
            (Some(_), None) => {}
        }
    }

    fn twice(&mut self, name: &str, first: Option<Location>, at: Option<Location>) {
        let place = first.and_then(|first| {
            let source = self.sources.get(first.source)?;
            let line = source.text.get(..first.start)?.matches('\n').count() + 1;
            Some(format!("{}:{line}", source.path.display()))
        });
        let place = place.unwrap_or_else(|| "another file".to_owned());
        let message = format!("[{name}] is already in {place}");
        self.source_map.record_removed(None, name, false);
        self.diagnostics.push(Diagnostic {
            at,
            message,
            hint: Some("keep it in one file".to_owned()),
        });
    }
}

fn only_certificates(tls: &Tls) -> bool {
    let default = Tls::default();
    tls.min_version == default.min_version
        && tls.default.is_none()
        && tls.client_ca.is_none()
        && tls.dev_ca == default.dev_ca
}
