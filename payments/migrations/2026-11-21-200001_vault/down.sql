DROP TABLE payment_methods;
DROP TABLE vault.cards;
DROP TABLE vault.deks;
DROP SCHEMA vault;
DROP TABLE merchants;
