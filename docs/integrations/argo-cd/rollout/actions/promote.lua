-- Ends the step that waits. The token names it, so that a second click does not end the next one.
local attempt = obj.status.attempt
local annotations = obj.metadata.annotations or {}
annotations["serin.dev/promote"] = attempt.hash .. "@" .. attempt.stepIndex .. "/" .. obj.metadata.resourceVersion
obj.metadata.annotations = annotations
return obj
