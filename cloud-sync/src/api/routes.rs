//! A router that remembers its routes, so that a test can compare them with the document.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, post};

/// Routes with their own state each.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) router: Router,
    pub(super) list: Vec<(&'static str, &'static str)>,
}

impl Routes {
    pub(super) fn get<H, T, S>(self, path: &'static str, handler: H, state: S) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        self.add("get", path, get(handler).with_state(state))
    }

    pub(super) fn post<H, T, S>(self, path: &'static str, handler: H, state: S) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        self.add("post", path, post(handler).with_state(state))
    }

    pub(super) fn delete<H, T, S>(self, path: &'static str, handler: H, state: S) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        self.add("delete", path, delete(handler).with_state(state))
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.list.extend(other.list);
        self
    }

    fn add(mut self, method: &'static str, path: &'static str, route: MethodRouter) -> Self {
        self.router = self.router.route(path, route);
        self.list.push((method, path));
        self
    }
}
