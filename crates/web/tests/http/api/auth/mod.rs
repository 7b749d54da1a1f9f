mod login;
mod logout;
mod verify;
