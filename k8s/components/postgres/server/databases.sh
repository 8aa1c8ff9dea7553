#!/bin/sh
# Runs once, when the data directory is new: a database and its owner for each service, and no way into another's.
# The image sources this file, so it must not set -u: what comes after it reads unset variables.
set -e
for service in identity bookings payments acquirer; do
    password=$(cat "/etc/postgres-roles/$service")
    psql --username "$POSTGRES_USER" --set ON_ERROR_STOP=1 --set service="$service" --set password="$password" <<'SQL'
CREATE ROLE :"service" LOGIN PASSWORD :'password';
CREATE DATABASE :"service" OWNER :"service";
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
SQL
done
