-- Tries the revision again that was given up.
local attempt = obj.status.attempt
local annotations = obj.metadata.annotations or {}
annotations["serin.dev/retry"] = attempt.hash .. "/" .. obj.metadata.resourceVersion
obj.metadata.annotations = annotations
return obj
