DROP TABLE inventory;
DROP TABLE fares;
DROP TABLE flights;
DROP TABLE aircraft_types;
DROP TABLE airline_managers;
DROP TABLE airlines;
DROP TABLE airports;
DROP TABLE cities;
