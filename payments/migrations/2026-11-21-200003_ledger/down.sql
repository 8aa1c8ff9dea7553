DROP TABLE ledger_balances;
DROP TABLE ledger_entries;
DROP TABLE ledger_txs;
DROP TABLE ledger_accounts;
DROP FUNCTION ledger_entries_check;
DROP FUNCTION ledger_txs_check;
DROP FUNCTION ledger_check_tx;
DROP FUNCTION ledger_refuse_change;
