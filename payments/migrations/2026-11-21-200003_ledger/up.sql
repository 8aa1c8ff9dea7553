CREATE TABLE ledger_accounts (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    code text NOT NULL CHECK (
        code IN ('acquirer_receivable', 'merchant_pending', 'merchant_available', 'refunds_payable', 'fees_income')
    ),
    -- NULL for accounts of the gateway itself.
    merchant_id text REFERENCES merchants (id),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    -- The side that makes the balance grow: D(ebit) or C(redit).
    normal_side text NOT NULL CHECK (normal_side IN ('D', 'C')),
    floored boolean NOT NULL,
    UNIQUE NULLS NOT DISTINCT (code, merchant_id, currency),
    UNIQUE (id, currency)
);

-- PENDING reserves, POSTED moves, VOID lets a reservation go and has no entries.
CREATE TABLE ledger_txs (
    id uuid PRIMARY KEY,
    -- What happened, and to what: at most one transaction of each kind.
    source_type text NOT NULL CHECK (source_type IN ('attempt', 'capture', 'refund')),
    source_id uuid NOT NULL,
    kind text NOT NULL,
    phase text NOT NULL CHECK (phase IN ('PENDING', 'POSTED', 'VOID')),
    -- The reservation that this ends: at most once.
    resolves uuid UNIQUE REFERENCES ledger_txs (id),
    created_at timestamptz NOT NULL,
    UNIQUE (source_type, source_id, kind),
    CONSTRAINT ledger_txs_void_check CHECK (phase <> 'VOID' OR resolves IS NOT NULL),
    CONSTRAINT ledger_txs_pending_check CHECK (phase <> 'PENDING' OR resolves IS NULL)
);

CREATE TABLE ledger_entries (
    tx_id uuid NOT NULL REFERENCES ledger_txs (id),
    line smallint NOT NULL CHECK (line >= 1),
    account_id bigint NOT NULL,
    side text NOT NULL CHECK (side IN ('D', 'C')),
    currency text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    PRIMARY KEY (tx_id, line),
    FOREIGN KEY (account_id, currency) REFERENCES ledger_accounts (id, currency)
);

CREATE INDEX ledger_entries_account_id_idx ON ledger_entries (account_id);

-- Of scarce accounts only. Accounts that every payment touches have none: theirs is the sum of the entries, and no request waits for another.
CREATE TABLE ledger_balances (
    account_id bigint PRIMARY KEY REFERENCES ledger_accounts (id),
    posted_minor numeric(38, 0) NOT NULL DEFAULT 0,
    -- Reserved: what the balance would change by if every open reservation were posted.
    pending_minor numeric(38, 0) NOT NULL DEFAULT 0,
    floored boolean NOT NULL,
    CONSTRAINT ledger_balances_floor_check CHECK (NOT floored OR posted_minor + least(pending_minor, 0) >= 0)
);

CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE ON ledger_entries
FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_entries_no_truncate BEFORE TRUNCATE ON ledger_entries
FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_txs_append_only BEFORE UPDATE OR DELETE ON ledger_txs
FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_txs_no_truncate BEFORE TRUNCATE ON ledger_txs
FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();

-- Refuses, at commit, a transaction that does not balance, has only one side, or posts more than it reserved.
CREATE FUNCTION ledger_check_tx(checked uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    tx ledger_txs;
    debits bigint;
    credits bigint;
    unbalanced bigint;
    reserved bigint;
BEGIN
    SELECT * INTO STRICT tx FROM ledger_txs WHERE id = checked;
    SELECT count(*) FILTER (WHERE side = 'D'), count(*) FILTER (WHERE side = 'C') INTO debits, credits
    FROM ledger_entries WHERE tx_id = checked;
    SELECT count(*) INTO unbalanced FROM (
        SELECT 1 FROM ledger_entries WHERE tx_id = checked GROUP BY currency
        HAVING sum(CASE side WHEN 'D' THEN amount_minor ELSE -amount_minor END) <> 0
    ) AS currencies;
    IF unbalanced > 0 THEN
        RAISE EXCEPTION 'ledger transaction % does not balance', checked USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF (tx.phase = 'VOID' AND debits + credits > 0) OR (tx.phase <> 'VOID' AND (debits = 0 OR credits = 0)) THEN
        RAISE EXCEPTION 'ledger transaction % has the wrong sides', checked USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF tx.resolves IS NOT NULL THEN
        SELECT count(*) INTO reserved FROM ledger_txs WHERE id = tx.resolves AND phase = 'PENDING';
        IF reserved <> 1 OR EXISTS (
            SELECT currency FROM ledger_entries WHERE tx_id = checked AND side = 'D' GROUP BY currency
            HAVING sum(amount_minor) > coalesce((
                SELECT sum(r.amount_minor) FROM ledger_entries AS r
                WHERE r.tx_id = tx.resolves AND r.side = 'D' AND r.currency = ledger_entries.currency
            ), 0)
        ) THEN
            RAISE EXCEPTION 'ledger transaction % posts more than was reserved', checked
            USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END IF;
END
$$;

CREATE FUNCTION ledger_txs_check() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ledger_check_tx(NEW.id);
    RETURN NULL;
END
$$;

CREATE FUNCTION ledger_entries_check() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ledger_check_tx(NEW.tx_id);
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER ledger_txs_balanced AFTER INSERT ON ledger_txs
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_txs_check();
CREATE CONSTRAINT TRIGGER ledger_entries_balanced AFTER INSERT ON ledger_entries
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_entries_check();
