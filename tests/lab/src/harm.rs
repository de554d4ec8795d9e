//! What may be done to a lab on purpose: parts stopped and crashed, hostile ways to others.

use std::path::PathBuf;

use tokio::sync::Mutex;

use crate::{
    access,
    error::{Error, Result},
    hostile::{Metrics, Proxy},
    inside::HOST_IP,
    lab::Lab,
    process::Part,
};

/// A part that may be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// etcd.
    Etcd,
    /// The API server.
    ApiServer,
    /// Envoy's gateway, not Envoy: it cannot be crashed, for Envoy would go with it.
    Gateway,
}

impl Lab {
    /// A hostile way to the API server, in fine weather at first.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn hostile_proxy(&self, seed: u64) -> Result<Proxy> {
        let server = format!("https://{HOST_IP}:{}", access::API_PORT);
        let nobody = access::kubeconfig_at(
            &server,
            self.plane.ca_pem(),
            "nobody",
            &serde_json::json!({}),
        )?;
        Proxy::start(access::passing_on(&nobody).await?, seed).await
    }

    /// A kubeconfig file for a ServiceAccount by way of a proxy, good for a day.
    ///
    /// # Errors
    /// When the API server gives no token for it.
    pub async fn kubeconfig_through(
        &self,
        proxy: &Proxy,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf> {
        let token = access::token_of(&self.client, namespace, name, None).await?;
        let text = access::kubeconfig_at(
            proxy.url(),
            proxy.ca_pem(),
            &format!("{namespace}-{name}"),
            &serde_json::json!({"token": token}),
        )?;
        let file = format!("{namespace}-{name}-through");
        let path = self.run_dir().join("kubeconfigs").join(file);
        access::write_private(&path, &text)?;
        Ok(path)
    }

    /// A metrics server that may be sick, before this lab's Prometheus.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn hostile_metrics(&self) -> Result<Metrics> {
        Metrics::start(self.http.clone(), self.prometheus_url()).await
    }

    /// Stops a part where it is, as SIGSTOP does, or lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn freeze(&self, piece: Piece, frozen: bool) -> Result<()> {
        let none = || Error::Invalid(format!("{piece:?} does not run"));
        match self.part(piece) {
            Some(part) => part.lock().await.as_ref().ok_or_else(none)?.freeze(frozen),
            None => {
                let gateway = self.gateway.as_ref().ok_or_else(none)?;
                gateway.server().freeze(frozen)
            }
        }
    }

    /// A part of the control plane, if it runs; none for what is no part of it.
    fn part(&self, piece: Piece) -> Option<&Mutex<Option<Part>>> {
        match piece {
            Piece::Etcd => Some(self.plane.etcd_part()),
            Piece::ApiServer => Some(self.plane.api_server_part()),
            Piece::Gateway => None,
        }
    }

    /// Ends etcd or the API server at once, as a crash would.
    ///
    /// # Errors
    /// When it cannot be crashed.
    pub async fn crash(&self, piece: Piece) -> Result<()> {
        let part = self.part(piece);
        let part = part.ok_or_else(|| Error::Invalid("Envoy would go with its gateway".into()))?;
        if let Some(part) = part.lock().await.take() {
            part.kill().await;
        }
        Ok(())
    }

    /// Starts etcd or the API server again on what it stored, unless it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn revive(&self, piece: Piece) -> Result<()> {
        let (parts, supervisor) = (&self.parts, &self.supervisor);
        match piece {
            Piece::Etcd => self.plane.start_etcd(parts, supervisor).await,
            Piece::ApiServer => self.plane.start_api_server(parts, supervisor).await,
            Piece::Gateway => Ok(()),
        }
    }
}
