-- wrk posts the file $BODY; $JSON_LENGTH is the length of its JSON part if raw data follows.
local file = io.open(os.getenv("BODY"), "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "application/octet-stream"
if os.getenv("JSON_LENGTH") then
  wrk.headers["Inference-Header-Content-Length"] = os.getenv("JSON_LENGTH")
end
