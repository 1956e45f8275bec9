-- What the JSON of a token says, read strictly: HAProxy's own json_query takes a number or `true` for
-- text, the first of two members of one name for both, and has no arrays.
--
-- The arguments are those of `lua-load-per-thread` (tokens.py): what a token has to say, each behind
-- a `=`. An error of ours is no answer, which grants nothing.

local given = { ... }
for at, each in ipairs(given) do
    given[at] = each:sub(2)
end
local algorithm, issuer, audience, tenant_claim, models_claim, scope_claim, admin_scope, leeway =
    table.unpack(given)
leeway = tonumber(leeway)

-- A header is read before anybody has signed anything: its values are few, and so is what it costs.
local MOST_HEADER_BYTES = 4096
local MOST_HEADER_PIECES = 64
local MOST_DEPTH = 16
local EXACT_DIGITS = 15 -- of an integer
local NO_INTEGER = 0.5
local NULL = {}
local WORDS = { ["true"] = true, ["false"] = false, ["null"] = NULL }
local ESCAPED = {
    ['"'] = '"', ["\\"] = "\\", ["/"] = "/",
    b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
}

-- -- JSON (RFC 8259). Each reads a value at a place and returns it with the place behind it; what is
-- no JSON is an error.

local value_at

local function behind_space(text, at)
    return text:match("^[ \t\r\n]*()", at)
end

local function require_that(is_so)
    if not is_so then
        error("no JSON", 0)
    end
end

local function code_unit_at(text, at)
    local digits = text:match("^\\u(%x%x%x%x)", at)
    require_that(digits)
    return tonumber(digits, 16)
end

local function escape_at(text, at)
    local letter = text:sub(at + 1, at + 1)
    if letter ~= "u" then
        require_that(ESCAPED[letter])
        return ESCAPED[letter], at + 2
    end
    local unit = code_unit_at(text, at)
    if unit < 0xD800 or unit > 0xDFFF then
        return utf8.char(unit), at + 6
    end
    local low = code_unit_at(text, at + 6)
    require_that(unit < 0xDC00 and low >= 0xDC00 and low <= 0xDFFF)
    return utf8.char(0x10000 + (unit - 0xD800) * 0x400 + low - 0xDC00), at + 12
end

local function string_at(text, at)
    require_that(text:sub(at, at) == '"')
    at = at + 1
    local parts = {}
    while true do
        local stop = text:find('["\\\0-\31]', at)
        require_that(stop)
        parts[#parts + 1] = text:sub(at, stop - 1)
        local found = text:sub(stop, stop)
        if found == '"' then
            local whole = table.concat(parts)
            require_that(utf8.len(whole))
            return whole, stop + 1
        end
        require_that(found == "\\")
        parts[#parts + 1], at = escape_at(text, stop)
    end
end

-- Of numbers only integers matter.
local function number_at(text, at)
    local digits, behind = text:match("^(-?%d+)()", at)
    require_that(digits and not digits:find("^-?0%d"))
    local fraction = text:match("^%.%d+()", behind) or behind
    local exponent = text:match("^[eE][+-]?%d+()", fraction) or fraction
    local is_exact = exponent == behind and #digits <= EXACT_DIGITS
    return is_exact and tonumber(digits) or NO_INTEGER, exponent
end

local function word_at(text, at)
    local word, behind = text:match("^(%l+)()", at)
    require_that(WORDS[word] ~= nil)
    return WORDS[word], behind
end

-- Members of an array or an object, up to the bracket that ends it.
local function members_at(text, at, closing, member_at)
    at = behind_space(text, at + 1)
    if text:sub(at, at) == closing then
        return at + 1
    end
    while true do
        at = behind_space(text, member_at(at))
        local found = text:sub(at, at)
        if found == closing then
            return at + 1
        end
        require_that(found == ",")
        at = behind_space(text, at + 1)
    end
end

local function array_at(text, at, depth)
    local array = {}
    return array, members_at(text, at, "]", function(place)
        array[#array + 1], place = value_at(text, place, depth)
        return place
    end)
end

local function object_at(text, at, depth)
    local object = {}
    return object, members_at(text, at, "}", function(place)
        local name
        name, place = string_at(text, place)
        require_that(object[name] == nil) -- of two no two readers take the same
        place = behind_space(text, place)
        require_that(text:sub(place, place) == ":")
        object[name], place = value_at(text, behind_space(text, place + 1), depth)
        return place
    end)
end

function value_at(text, at, depth)
    require_that(depth < MOST_DEPTH)
    local first = text:sub(at, at)
    if first == '"' then
        return string_at(text, at)
    elseif first == "{" then
        return object_at(text, at, depth + 1)
    elseif first == "[" then
        return array_at(text, at, depth + 1)
    elseif first:find("^[-%d]") then
        return number_at(text, at)
    end
    return word_at(text, at)
end

local function whole_object(text)
    local begin = behind_space(text, 1)
    require_that(text:sub(begin, begin) == "{")
    local object, behind = object_at(text, begin, 0)
    require_that(behind_space(text, behind) > #text)
    return object
end

local function object_in(text)
    local is_one, object = pcall(whole_object, text or "")
    return is_one and object or nil
end

-- -- Tokens (RFC 7519).

-- As Tenant of serve/config/sections.py: `none` and `other` are what figures call nobody and the rest.
local function is_tenant(text)
    return type(text) == "string"
        and text ~= "none"
        and text ~= "other"
        and #text <= 63
        and text:find("^[A-Za-z0-9][A-Za-z0-9._-]*$") ~= nil
        and text:find("[A-Za-z0-9]$") ~= nil
end

local function is_integer(value)
    return math.type(value) == "integer"
end

-- Whether a text is in an array: the names of an object's members are no integers.
local function is_in(array, text)
    for _, each in ipairs(type(array) == "table" and array or {}) do
        if each == text then
            return true
        end
    end
    return false
end

-- The standard claim `scope` is one text of words (RFC 8693, 4.2); some issuers make an array of them.
local function is_admin(claim)
    if admin_scope == "" or type(claim) ~= "string" then
        return admin_scope ~= "" and is_in(claim, admin_scope)
    end
    return (" " .. claim .. " "):find(" " .. admin_scope .. " ", 1, true) ~= nil
end

local function opens(claim, model)
    return models_claim == "" or claim == "*" or is_in(claim, "*") or is_in(claim, model)
end

-- Why a token opens nothing, as a reason and what is told of it; nil for one that does.
local function fault_of(claims, now)
    if not claims then
        return "bad_token:its claims are no JSON object, or name one of them twice"
    elseif claims.iss ~= issuer then
        return "bad_token:its issuer (iss) is another one"
    elseif claims.aud ~= audience and not is_in(claims.aud, audience) then
        return "bad_token:it is for another audience (aud)"
    elseif not is_integer(claims.exp) then
        return "bad_token:when it expires (exp) is missing, or no integer"
    elseif claims.exp + leeway <= now then
        return "expired_token:it has expired"
    elseif claims.nbf ~= nil and not is_integer(claims.nbf) then
        return "bad_token:when it begins to count (nbf) is no integer"
    elseif claims.nbf ~= nil and claims.nbf > now + leeway then
        return "bad_token:it does not count yet (nbf)"
    elseif not is_tenant(claims[tenant_claim]) then
        return "bad_token:the claim that names its tenant is missing, or no name of one"
    end
end

local function is_of_few_pieces(text)
    local _, pieces = text:gsub("[%[{,\\%s]", "", MOST_HEADER_PIECES + 1)
    return pieces <= MOST_HEADER_PIECES
end

-- What the key of a token is looked up by: `=` and its id, or `-` where it names none. Empty for a
-- token of another algorithm, or one with extensions that must be understood (RFC 7515, 4.1.11).
core.register_fetches("strata_token_key", function(txn)
    local text = txn:get_var("txn.strata_token_head")
    local header = #text <= MOST_HEADER_BYTES and is_of_few_pieces(text) and object_in(text)
    if not header or header.alg ~= algorithm or header.crit ~= nil then
        return ""
    elseif header.kid == nil then
        return "-"
    end
    return type(header.kid) == "string" and "=" .. header.kid or ""
end)

-- What a token whose signature is good opens, as the map of keys has it of a key (grants.py), whose
-- models are `all` where it opens the one that is asked for; or its fault.
core.register_fetches("strata_token_grant", function(txn)
    local claims = object_in(txn:get_var("txn.strata_token_claims"))
    local fault = fault_of(claims, core.now().sec)
    if fault then
        return fault
    end
    local scope = is_admin(claims[scope_claim]) and "admin" or "infer"
    local models = opens(claims[models_claim], txn:get_var("txn.strata_model")) and "all" or "some"
    return ("%s|%s|%s|%d"):format(claims[tenant_claim], scope, models, claims.exp + leeway)
end)
