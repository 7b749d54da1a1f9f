mod auth;
mod bodies;
mod nodes;
mod openapi;
mod user;
