CREATE TABLE roles (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{1,49}$'),
    description text NOT NULL
);

INSERT INTO roles (name, description) VALUES
('customer', 'Books flights and pays for them. Every user has it.'),
('flight_company', 'Manages the flights of an airline.'),
('admin', 'Manages users, roles and the catalogue.');

CREATE TABLE user_roles (
    user_id uuid NOT NULL REFERENCES users (id),
    role text NOT NULL REFERENCES roles (name),
    granted_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, role)
);

CREATE INDEX user_roles_role_idx ON user_roles (role);
