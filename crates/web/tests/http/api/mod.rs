mod auth;
mod bodies;
mod openapi;
mod user;
