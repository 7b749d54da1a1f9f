mod audit;
mod auth;
mod bodies;
mod leaks;
mod nodes;
mod openapi;
mod revoke;
mod user;
